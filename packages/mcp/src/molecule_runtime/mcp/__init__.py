"""molecule-mcp: puts any MCP client on the team, for many workspaces of many tenants at once."""
