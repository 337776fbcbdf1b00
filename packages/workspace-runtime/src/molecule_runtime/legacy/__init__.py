"""What the predecessor's executors were given beside their arguments: made of the wheels, for the legacy paths alone."""
