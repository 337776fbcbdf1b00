"""The predecessor's `adapters`: what every template imports its base class from."""
