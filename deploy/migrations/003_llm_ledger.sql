-- What became of each event, per tenant and minute: received = aggregated + pending + orphaned + duplicate + late + rejected.
-- Tenant '' holds what could not be given to a tenant.

create table llm_ledger (
    tenant_id text not null,
    minute timestamptz not null,
    received bigint not null,
    aggregated bigint not null,
    pending bigint not null,
    orphaned bigint not null,
    duplicate bigint not null,
    late bigint not null,
    rejected bigint not null,
    version bigint[] not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, minute)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

create index llm_ledger_by_time on llm_ledger (minute desc);

-- What these tables belong to: `log_id` names the log whose events they count.
create table streamlens_meta (
    key text primary key,
    value text not null
);
