-- What the caller wants in the metadata of the message, kept for a delegation that is sent after a restart. JSON, or NULL.

ALTER TABLE delegations ADD COLUMN metadata TEXT;
