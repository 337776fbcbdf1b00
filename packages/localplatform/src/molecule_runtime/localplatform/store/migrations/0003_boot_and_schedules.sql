-- What a workspace is given at its start, and what it is asked to do at set times.

-- Secrets of one workspace, or (NULL) of all.
CREATE TABLE secrets (
    workspace_id TEXT REFERENCES workspaces (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX secrets_once ON secrets (coalesce(workspace_id, ''), key);

-- The model of a workspace is its secret MODEL.
INSERT INTO secrets (workspace_id, key, value, created_at, updated_at)
    SELECT id, 'MODEL', model, created_at, created_at FROM workspaces WHERE coalesce(model, '') <> '';

CREATE TABLE instructions (
    id TEXT PRIMARY KEY,
    scope TEXT NOT NULL CHECK (scope IN ('global', 'workspace')),
    scope_target TEXT REFERENCES workspaces (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    content TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((scope = 'global') = (scope_target IS NULL))
) STRICT;
CREATE INDEX instructions_by_target ON instructions (scope_target);

CREATE TABLE workspace_config (
    workspace_id TEXT PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    data_json TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- A run that is due is claimed (`claimed_*`), then sent (`sent_at`), then recorded, and its claim is given up; `next_run_at` moves on with the claim.
CREATE TABLE schedules (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    name TEXT NOT NULL DEFAULT '',
    cron_expr TEXT NOT NULL,
    timezone TEXT NOT NULL DEFAULT 'UTC',
    prompt TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    source TEXT NOT NULL DEFAULT 'runtime' CHECK (source IN ('template', 'runtime')),
    next_run_at INTEGER,
    last_run_at INTEGER,
    run_count INTEGER NOT NULL DEFAULT 0,
    last_status TEXT NOT NULL DEFAULT '',
    last_error TEXT NOT NULL DEFAULT '',
    consecutive_empty_runs INTEGER NOT NULL DEFAULT 0,
    claimed_due_at INTEGER,
    claimed_at INTEGER,
    sent_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX schedules_once ON schedules (workspace_id, name);
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE enabled = 1 AND claimed_due_at IS NULL;
CREATE INDEX schedules_claimed ON schedules (claimed_at) WHERE claimed_due_at IS NOT NULL;
