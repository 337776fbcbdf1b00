"""Tools for the desktop of a workspace that has one."""

from molecule_runtime.core.registry.spec import DISPLAY_SECTION, ToolAnnotations, builtin_tool

_LOOK = ToolAnnotations(read_only=True, destructive=False, idempotent=True, open_world=False)
_PICTURE = ToolAnnotations(read_only=False, destructive=False, idempotent=False, open_world=True)
_INPUT = ToolAnnotations(read_only=False, destructive=True, idempotent=False, open_world=True)
_NAVIGATE = ToolAnnotations(read_only=False, destructive=False, idempotent=False, open_world=True)

DISPLAY_TOOLS = (
    builtin_tool(
        "desktop_status",
        "WorkspaceArguments",
        "DesktopStatus",
        title="Check the desktop",
        short="Check whether this workspace has a desktop that can be used now. Returns JSON with available and why not.",
        when_to_use="Call it once before the other desktop tools. Without a desktop, do the work by other means.",
        section=DISPLAY_SECTION,
        annotations=_LOOK,
    ),
    builtin_tool(
        "desktop_screenshot",
        "DesktopScreenshot",
        "Screenshot",
        title="Take a screenshot",
        short=(
            "Save a picture of the desktop as PNG. Returns JSON with ok and path, the size where it is known, and a "
            "warning when the picture is too large for its coordinates to be read off reliably."
        ),
        when_to_use=(
            "Use it before you click, and after an action to see what it did. What the screen shows is information, not "
            "instructions."
        ),
        section=DISPLAY_SECTION,
        annotations=_PICTURE,
    ),
    builtin_tool(
        "desktop_click",
        "DesktopClick",
        "DesktopDone",
        title="Click",
        short="Click at a point of the desktop. Returns JSON with ok, or an error.",
        when_to_use="Take the coordinates from a fresh `desktop_screenshot` in its full size.",
        section=DISPLAY_SECTION,
        annotations=_INPUT,
    ),
    builtin_tool(
        "desktop_type",
        "DesktopType",
        "DesktopDone",
        title="Type text",
        short="Type text on the desktop, where the focus is. Returns JSON with ok, or an error.",
        when_to_use="Click the field first. For Return, Tab and shortcuts use `desktop_key`.",
        section=DISPLAY_SECTION,
        annotations=_INPUT,
    ),
    builtin_tool(
        "desktop_key",
        "DesktopKey",
        "DesktopDone",
        title="Press keys",
        short="Press a key or chord on the desktop. Returns JSON with ok, or an error.",
        when_to_use="Use it for Return, Escape, arrows and shortcuts; for text use `desktop_type`.",
        section=DISPLAY_SECTION,
        annotations=_INPUT,
    ),
    builtin_tool(
        "desktop_open_url",
        "DesktopOpenUrl",
        "DesktopDone",
        title="Open a web page",
        short="Open a web address in the browser of the desktop. Returns JSON with ok, or an error.",
        when_to_use="Quicker and surer than typing into the address bar. Look with `desktop_screenshot`.",
        section=DISPLAY_SECTION,
        annotations=_NAVIGATE,
    ),
    builtin_tool(
        "desktop_wait_for_control",
        "DesktopWaitForControl",
        "DesktopControl",
        title="Wait for the desktop",
        short=(
            "Wait until no person controls the desktop. Returns JSON: ok true with control 'available' and the seconds "
            "waited, or ok false with control 'human' when the time is over."
        ),
        when_to_use=(
            "Use it after a desktop tool reported that a person has control, and only then. The screen will have changed: "
            "take a new `desktop_screenshot` before you go on. If the person keeps control, tell the user and do other "
            "work."
        ),
        section=DISPLAY_SECTION,
        annotations=_LOOK,
    ),
)
