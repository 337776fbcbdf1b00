"""The contracts every molecule-runtime wheel shares: targets, tools, wire models, the platform client and the adapter interface."""
