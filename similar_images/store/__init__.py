"""Where vectors live and are found."""
