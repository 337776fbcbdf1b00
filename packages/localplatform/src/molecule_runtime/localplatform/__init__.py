"""molecule-local: the embedded platform, the HTTP contract on one SQLite file."""

from molecule_runtime.localplatform.app import create_app
from molecule_runtime.localplatform.events import EventBus, Frame
from molecule_runtime.localplatform.server import RunningPlatform, serve
from molecule_runtime.localplatform.settings import LocalSettings

__all__ = ["EventBus", "Frame", "LocalSettings", "RunningPlatform", "create_app", "serve"]
