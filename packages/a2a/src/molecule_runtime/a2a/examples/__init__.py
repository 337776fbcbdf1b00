"""Example agents that do real work without a model: `runtime: calculator`, `runtime: table` and `runtime: lead` in config.yaml."""
