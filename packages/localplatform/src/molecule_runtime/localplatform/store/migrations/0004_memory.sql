-- What agents remember: texts, values by key, and the steps of their workflows.

CREATE TABLE memories (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    scope TEXT NOT NULL CHECK (scope IN ('LOCAL', 'TEAM', 'GLOBAL')),
    namespace TEXT NOT NULL DEFAULT 'general',
    content TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'fact' CHECK (kind IN ('fact', 'summary', 'checkpoint')),
    source TEXT NOT NULL DEFAULT '',
    pin INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX memories_by_workspace ON memories (workspace_id, scope, number);
CREATE INDEX memories_global ON memories (number) WHERE scope = 'GLOBAL';
CREATE INDEX memories_by_end ON memories (expires_at) WHERE expires_at IS NOT NULL;

CREATE VIRTUAL TABLE memories_fts USING fts5 (content, content = 'memories', content_rowid = 'number', tokenize = 'porter unicode61');
CREATE TRIGGER memories_added AFTER INSERT ON memories BEGIN
    INSERT INTO memories_fts (rowid, content) VALUES (new.number, new.content);
END;
CREATE TRIGGER memories_gone AFTER DELETE ON memories BEGIN
    INSERT INTO memories_fts (memories_fts, rowid, content) VALUES ('delete', old.number, old.content);
END;

CREATE TABLE key_values (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value_json TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    expires_at INTEGER,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    workflow_id TEXT NOT NULL,
    step_name TEXT NOT NULL,
    step_index INTEGER NOT NULL DEFAULT 0,
    payload_json TEXT NOT NULL DEFAULT 'null',
    completed_at INTEGER NOT NULL,
    UNIQUE (workspace_id, workflow_id, step_name)
) STRICT;
CREATE INDEX checkpoints_latest ON checkpoints (workspace_id, completed_at);
