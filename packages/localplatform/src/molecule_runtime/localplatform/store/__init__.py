"""The store: one SQLite file, written and read by one thread of its own.

The modules beside this one hold the SQL of one table each, as plain functions that take the connection; whatever several of them do in one
`Store.write` happens in one transaction.
"""

from molecule_runtime.localplatform.store.database import Store

__all__ = ["Store"]
