-- Moments are whole microseconds of Unix time; *_json columns hold JSON text.

CREATE TABLE workspaces (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT,
    tier INTEGER NOT NULL DEFAULT 3,
    kind TEXT NOT NULL DEFAULT 'workspace' CHECK (kind IN ('workspace', 'platform')),
    runtime TEXT NOT NULL DEFAULT 'claude-code',
    model TEXT,
    status TEXT NOT NULL DEFAULT 'provisioning' CHECK (status IN (
        'provisioning', 'awaiting_agent', 'online', 'degraded', 'offline', 'failed', 'paused', 'hibernating', 'hibernated', 'removed'
    )),
    parent_id TEXT REFERENCES workspaces (id) ON DELETE CASCADE,
    url TEXT NOT NULL DEFAULT '',
    delivery_mode TEXT NOT NULL DEFAULT 'push' CHECK (delivery_mode IN ('push', 'poll')),
    agent_card_json TEXT,
    inbound_secret TEXT NOT NULL,
    last_heartbeat_at INTEGER,
    error_rate REAL NOT NULL DEFAULT 0,
    sample_error TEXT NOT NULL DEFAULT '',
    active_tasks INTEGER NOT NULL DEFAULT 0,
    max_concurrent_tasks INTEGER NOT NULL DEFAULT 1,
    uptime_seconds INTEGER NOT NULL DEFAULT 0,
    current_task TEXT NOT NULL DEFAULT '',
    budget_limit INTEGER,
    monthly_spend INTEGER NOT NULL DEFAULT 0,
    last_outbound_at INTEGER,
    last_acked_seq INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;
CREATE INDEX workspaces_by_parent ON workspaces (parent_id);
CREATE INDEX workspaces_alive ON workspaces (last_heartbeat_at) WHERE status IN ('online', 'degraded');

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('instance', 'api')),
    hash BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE INDEX tokens_live ON tokens (workspace_id) WHERE revoked_at IS NULL;

CREATE TABLE activity (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    activity_type TEXT NOT NULL,
    source_id TEXT,
    target_id TEXT,
    method TEXT,
    summary TEXT,
    request_json TEXT,
    response_json TEXT,
    tool_trace_json TEXT,
    duration_ms INTEGER,
    status TEXT NOT NULL DEFAULT 'ok',
    error_detail TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX activity_by_workspace ON activity (workspace_id, activity_type, seq);

CREATE TABLE a2a_queue (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    caller_id TEXT,
    priority INTEGER NOT NULL DEFAULT 50,
    body_json TEXT NOT NULL,
    method TEXT NOT NULL DEFAULT '',
    idempotency_key TEXT,
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'dispatched', 'completed', 'dropped', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    response_body BLOB,
    enqueued_at INTEGER NOT NULL,
    dispatched_at INTEGER,
    completed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX a2a_queue_once ON a2a_queue (workspace_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND status IN ('queued', 'dispatched');
CREATE INDEX a2a_queue_waiting ON a2a_queue (workspace_id, enqueued_at) WHERE status = 'queued';

CREATE TABLE delegations (
    caller_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    delegation_id TEXT NOT NULL,
    callee_id TEXT NOT NULL,
    task TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('platform', 'agent')),
    status TEXT NOT NULL CHECK (status IN ('queued', 'dispatched', 'in_progress', 'completed', 'failed', 'stuck')),
    idempotency_key TEXT,
    result_preview TEXT,
    error_detail TEXT,
    retry_count INTEGER NOT NULL DEFAULT 0,
    sent_at INTEGER,
    deadline INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (caller_id, delegation_id)
) STRICT;
CREATE UNIQUE INDEX delegations_once ON delegations (caller_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX delegations_recent ON delegations (caller_id, created_at);
