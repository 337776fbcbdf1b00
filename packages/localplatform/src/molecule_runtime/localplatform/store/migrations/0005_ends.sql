-- What has ended is found without reading the values, which stand before their ends.

CREATE INDEX key_values_by_end ON key_values (expires_at) WHERE expires_at IS NOT NULL;
