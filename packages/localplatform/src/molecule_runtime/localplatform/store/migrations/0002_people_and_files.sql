-- What people and agents ask of each other, what they send along, who may do what, and what happened.

ALTER TABLE workspaces ADD COLUMN broadcast_enabled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN talk_to_user_enabled INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workspaces ADD COLUMN can_delegate INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workspaces ADD COLUMN mcp_server_present INTEGER;
ALTER TABLE workspaces ADD COLUMN mcp_unloaded_since INTEGER;
ALTER TABLE workspaces ADD COLUMN register_failed_at INTEGER;
ALTER TABLE workspaces ADD COLUMN chat_context_id TEXT;
ALTER TABLE workspaces ADD COLUMN workspace_dir TEXT;
ALTER TABLE workspaces ADD COLUMN workspace_access TEXT NOT NULL DEFAULT 'none'
    CHECK (workspace_access IN ('none', 'read_only', 'read_write'));
ALTER TABLE workspaces ADD COLUMN x REAL NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN y REAL NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN collapsed INTEGER NOT NULL DEFAULT 0;

-- A message that was left in an inbox is there once, however often its sender repeats it.
ALTER TABLE activity ADD COLUMN message_id TEXT;
CREATE UNIQUE INDEX activity_message_once ON activity (workspace_id, coalesce(source_id, ''), message_id)
    WHERE message_id IS NOT NULL;
CREATE INDEX activity_by_age ON activity (created_at);

CREATE TABLE org_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL DEFAULT '',
    hash BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

-- Approvals are requests of kind `approval` to the person; `task_id`, `context_json` and `expires_at` come from the approvals route.
CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('task', 'approval')),
    origin TEXT NOT NULL CHECK (origin IN ('requests', 'approvals')),
    requester_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    recipient_type TEXT NOT NULL CHECK (recipient_type IN ('user', 'agent')),
    recipient_id TEXT NOT NULL DEFAULT '',
    title TEXT NOT NULL,
    detail TEXT,
    priority INTEGER,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'info_requested', 'done', 'rejected', 'approved', 'cancelled')),
    responder_type TEXT,
    responder_id TEXT,
    task_id TEXT NOT NULL DEFAULT '',
    context_json TEXT NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    responded_at INTEGER
) STRICT;
CREATE INDEX requests_outgoing ON requests (requester_id, created_at);
CREATE INDEX requests_incoming ON requests (recipient_id, created_at) WHERE recipient_type = 'agent';
CREATE INDEX requests_open ON requests (created_at) WHERE status IN ('pending', 'info_requested');

CREATE TABLE request_messages (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    author_type TEXT NOT NULL CHECK (author_type IN ('user', 'agent')),
    author_id TEXT NOT NULL DEFAULT '',
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX request_messages_by_request ON request_messages (request_id, created_at);

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    acked_at INTEGER
) STRICT;
CREATE INDEX uploads_by_workspace ON uploads (workspace_id) WHERE acked_at IS NULL;
CREATE INDEX uploads_by_age ON uploads (expires_at);

CREATE TABLE upload_chunks (
    upload_id TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (upload_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    event_type TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    payload_json TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_workspace ON events (workspace_id, seq);

CREATE TABLE token_usage (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    day TEXT NOT NULL,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace_id, day)
) STRICT, WITHOUT ROWID;
