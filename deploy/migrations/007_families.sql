-- What is counted beside llm_metrics. Where names may be long, `id` stands for them and the window: a hash of the row's key.

-- The measures of llm_metrics per tenant, facet and value: a call counts once under each facet that it has.
create table llm_facets (like llm_metrics including defaults including generated)
    with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
alter table llm_facets rename column route to facet;
alter table llm_facets rename column model to value;
alter table llm_facets add primary key (tenant_id, facet, value, window_start);
create index llm_facets_by_facet on llm_facets (tenant_id, facet, window_start desc);
create index llm_facets_by_time on llm_facets (window_start desc);

-- Evaluations per tenant, route, model and name. Scores are exact: sums and extremes of millionths.
create table llm_evaluations (
    id bytea primary key,
    tenant_id text not null,
    route text not null,
    model text not null,
    name text not null,
    window_start timestamptz not null,
    window_end timestamptz not null,
    evaluations bigint not null,
    scored bigint not null,                -- those with a score
    score_sum numeric not null,
    min_score numeric,                     -- null without scores
    max_score numeric,
    zero bigint not null,                  -- scores of 0; the others' sizes, in millionths, are two histograms
    positive_index integer[] not null,
    positive_count bigint[] not null,
    negative_index integer[] not null,
    negative_count bigint[] not null,
    labels jsonb not null,                 -- label -> evaluations
    revision integer not null,
    final boolean not null,
    version bigint[] not null,
    updated_at timestamptz not null default now()
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

create index llm_evaluations_by_tenant on llm_evaluations (tenant_id, window_start desc);
create index llm_evaluations_by_time on llm_evaluations (window_start desc);

-- What is only counted, and summed up where it has a value: kind `log` (name: service, detail: level), `metric` (detail: unit
-- and tags), `warning` (name: rule, detail: sender).
create table llm_tallies (
    id bytea primary key,
    tenant_id text not null,
    kind text not null,
    name text not null,
    detail text not null,
    window_start timestamptz not null,
    window_end timestamptz not null,
    count bigint not null,
    sum numeric not null,
    min numeric not null,
    max numeric not null,
    version bigint[] not null,
    updated_at timestamptz not null default now()
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

create index llm_tallies_by_kind on llm_tallies (kind, tenant_id, window_start desc);
create index llm_tallies_by_time on llm_tallies (window_start desc);

-- Lines of application logs, the first ones of each minute, and more of the loud ones.
create table app_logs (
    id bytea primary key,
    log_id text not null,
    tenant_id text not null,
    class text not null,                   -- log, or log.loud from WARNING on: each class has its own room
    at timestamptz not null,
    content jsonb not null,
    version bigint[] not null,
    updated_at timestamptz not null default now(),

    level text generated always as (content ->> 'level') stored,
    service text generated always as (content ->> 'service') stored
);

create index app_logs_by_tenant on app_logs (tenant_id, at desc);
create index app_logs_by_time on app_logs (at desc);

-- The sum of counts by name, such as labels or error_types: counts_merge(labels).
create function counts_merge_add(state jsonb, counts jsonb) returns jsonb
language sql immutable parallel safe as $$
    select state || coalesce(jsonb_object_agg(key, coalesce((state ->> key)::bigint, 0) + value::bigint), '{}')
    from jsonb_each_text(counts)
$$;

create aggregate counts_merge(counts jsonb) (
    sfunc = counts_merge_add,
    stype = jsonb,
    initcond = '{}',
    combinefunc = counts_merge_add,
    parallel = safe
);
