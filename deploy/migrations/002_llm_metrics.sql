-- One row a minute, tenant, route and model. Sums and histograms are exact and written as they stand in the state; averages
-- are generated from them. Latencies: `_us` in microseconds, `_ms` in milliseconds.

create table llm_metrics (
    tenant_id text not null,
    route text not null,
    model text not null,
    window_start timestamptz not null,
    window_end timestamptz not null,
    requests bigint not null,
    errors bigint not null,
    error_types jsonb not null,
    latency_sum_us bigint not null,
    latency_min_us bigint not null,
    latency_max_us bigint not null,
    latency_zero bigint not null,
    latency_index integer[] not null,
    latency_count bigint[] not null,
    p50_latency_ms double precision,       -- histogram_quantile(0.50, …) / 1000; null without values
    p95_latency_ms double precision,
    p99_latency_ms double precision,
    ttft_requests bigint not null,
    ttft_sum_us bigint not null,
    ttft_min_us bigint not null,
    ttft_max_us bigint not null,
    ttft_zero bigint not null,
    ttft_index integer[] not null,
    ttft_count bigint[] not null,
    p95_ttft_ms double precision,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cached_tokens bigint not null,
    cache_write_tokens bigint not null,
    reasoning_tokens bigint not null,
    priced bigint not null,
    unpriced bigint not null,
    estimated_cost_usd numeric,            -- exact; null when nothing was priced
    revision integer not null,             -- how often the row's content changed
    final boolean not null,                -- every event that came in time is counted
    version bigint[] not null,             -- {generation, epoch} of its checkpoint; only a higher one replaces it
    updated_at timestamptz not null default now(),

    avg_latency_ms double precision generated always as
        (latency_sum_us / 1000::double precision / nullif(requests, 0)) stored,
    min_latency_ms double precision generated always as (latency_min_us / 1000::double precision) stored,
    max_latency_ms double precision generated always as (latency_max_us / 1000::double precision) stored,
    avg_prompt_tokens double precision generated always as
        (prompt_tokens::double precision / nullif(requests, 0)) stored,
    avg_completion_tokens double precision generated always as
        (completion_tokens::double precision / nullif(requests, 0)) stored,

    primary key (tenant_id, route, model, window_start)
) with (
    -- An open window's row is rewritten twice a second: room in its page keeps such updates out of the indexes.
    fillfactor = 60,
    autovacuum_vacuum_scale_factor = 0.05
);

create index llm_metrics_by_tenant on llm_metrics (tenant_id, window_start desc);
create index llm_metrics_by_time on llm_metrics (window_start desc);
