"""The notebook as an app for visitors."""
