"""For adapter authors: a conformance suite for pytest, and the platform and host that it runs an adapter in.

    from molecule_runtime.core.testing import AdapterConformance

    class TestAdapter(AdapterConformance):
        adapter_class = Adapter

Install it with `pip install 'molecule-runtime-core[testing]'`.
"""

from molecule_runtime.core.testing.conformance import AdapterConformance
from molecule_runtime.core.testing.host import Event, FakeHost
from molecule_runtime.core.testing.platform import FakePlatform

__all__ = ["AdapterConformance", "Event", "FakeHost", "FakePlatform"]
