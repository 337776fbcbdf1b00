import anyio
from mcp import types
from mcp.server import Server
from mcp.server.stdio import stdio_server
async def list_tools(ctx, params): return types.ListToolsResult(tools=[types.Tool(name="noop", input_schema={"type":"object"})])
async def call_tool(ctx, params): return types.CallToolResult(content=[])
async def main():
    server=Server("peer",version="1",on_list_tools=list_tools,on_call_tool=call_tool)
    async with stdio_server() as (r,w):
        await server.run(r,w,server.create_initialization_options())
anyio.run(main)
