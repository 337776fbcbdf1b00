"""Tools for the queue of inbound messages, where the runtime polls for them instead of being called."""

from molecule_runtime.core.registry.spec import INBOX_SECTION, ToolAnnotations, builtin_tool

_READ_OTHERS = ToolAnnotations(read_only=True, destructive=False, idempotent=True, open_world=True)
_REMOVE = ToolAnnotations(read_only=False, destructive=True, idempotent=True, open_world=False)

_WHERE = "It works only in the standalone MCP server; inside a workspace container messages reach you by themselves."

INBOX_TOOLS = (
    builtin_tool(
        "wait_for_message",
        "WaitForMessage",
        "NextMessage",
        title="Wait for a message",
        short=(
            "Wait for the next inbound message from the user or a peer. Returns the message as JSON, which stays in the "
            "inbox until inbox_pop, or JSON with timeout true."
        ),
        when_to_use=(
            "Use it when you have nothing else to do and should be reachable; call it again after a timeout. Answer a "
            "user with `send_message_to_user` and a peer with `delegate_task`, then take the message out with "
            f"`inbox_pop`, or it comes back. {_WHERE}"
        ),
        section=INBOX_SECTION,
        annotations=_READ_OTHERS,
    ),
    builtin_tool(
        "inbox_peek",
        "InboxPeek",
        "Messages",
        title="Look into the inbox",
        short="List waiting inbound messages, oldest first, and leave them there. Returns a JSON array.",
        when_to_use=(
            "Use it to see what has arrived without waiting. Deal with a message, then take it out with `inbox_pop`. "
            f"{_WHERE}"
        ),
        section=INBOX_SECTION,
        annotations=_READ_OTHERS,
    ),
    builtin_tool(
        "inbox_pop",
        "InboxPop",
        "Popped",
        title="Take a message out of the inbox",
        short="Take a message that you have dealt with out of the inbox. Returns JSON with removed and activity_id.",
        when_to_use=(
            "Call it after you have answered a message, not before: a message that is taken out is not delivered again. "
            f"{_WHERE}"
        ),
        section=INBOX_SECTION,
        annotations=_REMOVE,
    ),
)
