-- API keys and projects. Of a key's secret only its SHA-256 is kept: it has 256 random bits, so it can't be guessed from that.

create table streamlens_projects (
    id text primary key,                   -- the tenant
    name text not null,
    created_at timestamptz not null default now(),
    deleted_at timestamptz                 -- its rows stay
);

create table streamlens_keys (
    id bigint generated always as identity primary key,
    sha256 bytea not null unique check (length(sha256) = 32),
    tenant_id text,                        -- null: all tenants
    scopes text[] not null check (scopes <@ array['ingest', 'read', 'admin'] and cardinality(scopes) > 0),
    name text not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

create index streamlens_keys_by_tenant on streamlens_keys (tenant_id) where revoked_at is null;

-- Counts the changes, by whatever hand, in the transaction that makes them: so each process can ask cheaply for new ones.
create table streamlens_keys_version (version bigint not null);
insert into streamlens_keys_version values (0);

create function streamlens_keys_changed() returns trigger language plpgsql as $$
begin
    update streamlens_keys_version set version = version + 1;
    return null;
end $$;

create trigger streamlens_keys_changed after insert or update or delete or truncate on streamlens_keys
    for each statement execute function streamlens_keys_changed();
