"""Through whom a task came."""

from molecule_runtime.core import delegation_chain
from molecule_runtime.core.identity import WorkspaceId


def test_the_sender_is_the_last_of_the_chain_and_everybody_is_in_it_once() -> None:
    metadata = {"delegation_chain": ["ws-1", "ws-2"], "source_workspace_id": "ws-2"}
    assert delegation_chain.read(metadata) == ("ws-1", "ws-2")
    assert delegation_chain.read({"source_workspace_id": "ws-1"}) == ("ws-1",)
    assert delegation_chain.read({}) == ()


def test_what_is_no_workspace_id_is_left_out() -> None:
    for claimed in ("ws-1", {"a": 1}, None, 7, [None, 7, "../x", "A B", "", ["ws-1"], "x" * 200]):
        assert delegation_chain.read({"delegation_chain": claimed, "source_workspace_id": claimed}) in {(), ("ws-1",)}


def test_a_chain_without_end_is_cut_to_its_end() -> None:
    many = [f"ws-{number}" for number in range(10_000)]
    chain = delegation_chain.read({"delegation_chain": many, "source_workspace_id": "last"})
    assert len(chain) == delegation_chain.MAX_LENGTH
    assert chain[-2:] == ("ws-9999", "last")


def test_a_chain_holds_for_the_turn_alone_and_is_handed_on_with_the_own_id() -> None:
    with delegation_chain.working_for({"source_workspace_id": "ws-1"}):
        assert delegation_chain.current() == ("ws-1",)
        assert delegation_chain.handed_on_by(WorkspaceId("ws-2")) == ["ws-1", "ws-2"]
        assert delegation_chain.handed_on_by(WorkspaceId("ws-1")) == ["ws-1"]
    assert delegation_chain.current() == ()
    assert delegation_chain.handed_on_by(WorkspaceId("ws-2")) == ["ws-2"]


def test_a_program_of_a_turn_is_told_where_its_task_came_from() -> None:
    assert delegation_chain.for_a_program() == {}
    with delegation_chain.working_for({"delegation_chain": ["ws-1"], "source_workspace_id": "ws-2"}):
        environ = delegation_chain.for_a_program()
    assert environ == {"MOLECULE_DELEGATION_CHAIN": "ws-1,ws-2"}
    assert delegation_chain.of_this_program(environ) == ("ws-1", "ws-2")
    assert delegation_chain.of_this_program({}) == ()
    assert delegation_chain.of_this_program({"MOLECULE_DELEGATION_CHAIN": " ws-1 ,, ../x"}) == ("ws-1",)
