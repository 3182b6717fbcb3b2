-- Variants of experiments per minute. Of each measure there are how many values, their sum and the sum of their squares, which
-- is all that means, variances and their differences need; minutes add up. All exact, in the unit of the measure's name.
create table llm_experiments (
    tenant_id text not null,
    experiment text not null,
    variant text not null,
    window_start timestamptz not null,
    window_end timestamptz not null,
    calls bigint not null,                 -- 0 where only evaluations name the variant
    measures jsonb not null,               -- latency_ms, cost_usd, score:NAME, … -> [count, sum, sum of squares]
    version bigint[] not null,
    updated_at timestamptz not null default now(),

    primary key (experiment, tenant_id, variant, window_start)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

create index llm_experiments_by_tenant on llm_experiments (tenant_id, window_start desc);
create index llm_experiments_by_time on llm_experiments (window_start desc);

-- What was measured of each variant: select * from experiment_moments('acme', 'tone', 'latency_ms', now() - interval '7 days').
create function experiment_moments(
    tenant text, named text, measure text, since timestamptz default null, before timestamptz default null
) returns table (variant text, calls bigint, count bigint, sum numeric, squares numeric)
language sql stable parallel safe as $$
    select variant, sum(calls)::bigint, coalesce(sum((measures -> measure ->> 0)::bigint), 0)::bigint,
        coalesce(sum((measures -> measure ->> 1)::numeric), 0), coalesce(sum((measures -> measure ->> 2)::numeric), 0)
    from llm_experiments
    where experiment = named and tenant_id = tenant
        and (since is null or window_start >= since) and (before is null or window_start < before)
    group by variant
    order by variant
$$;
