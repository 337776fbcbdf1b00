"""The predecessor's `platform_tools`: the registry of tools."""
