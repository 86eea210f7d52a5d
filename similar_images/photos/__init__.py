"""Photos: paths, bytes and addresses to upright sRGB pixels."""
