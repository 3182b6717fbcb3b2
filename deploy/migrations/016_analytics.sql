-- Questions about a span of time, from `since` (inclusive) to `before`; `of_tenant` null: of all tenants. Percentiles are of
-- merged histograms, costs null where nothing was priced:
--
--   select * from calls_by_provider('acme', now() - interval '1 day', now());

-- The values of `whole` that are not in `part`, which is a part of it.
create function histogram_less(whole histogram, part histogram) returns histogram
language sql immutable parallel safe
begin atomic
    select row(
        coalesce((whole).zero, 0) - coalesce((part).zero, 0),
        coalesce(array_agg(bucket order by bucket), '{}'),
        coalesce(array_agg(n order by bucket), '{}')
    )::histogram
    from (
        select bucket, sum(n)::bigint as n
        from (
            select bucket, n from unnest((whole).index, (whole).count) as w (bucket, n)
            union all
            select bucket, -n from unnest((part).index, (part).count) as p (bucket, n)
        ) as both_sides
        group by bucket
        having sum(n) > 0
    ) as rest;
end;

-- Model and version in a value of the facet `model_version`: "model/version", where a "/" or "\" in the model's name has a
-- "\" before it. Null for `__other__`.
create function model_version_parts(value text) returns text[]
language sql immutable strict parallel safe
begin atomic
    select array[regexp_replace(parts[1], '\\(.)', '\1', 'g'), parts[2]]
    from regexp_match(value, '^((?:[^/\\]|\\.)*)/(.*)$') as parts;
end;

-- Calls per tenant, step, model and version of the model, the newest first. Version null: those that tell none, or whose
-- versions are too many; there they are what is left of the model's calls without those of its versions.
create function calls_by_model_version(
    of_tenant text, of_model text, since timestamptz, before timestamptz, most bigint, step interval default '1 minute'
) returns table (
    tenant_id text, minute timestamptz, model text, model_version text, requests bigint, errors bigint,
    p50_latency_ms double precision, p95_latency_ms double precision, p99_latency_ms double precision,
    tokens_in bigint, tokens_out bigint
)
language sql stable parallel safe
begin atomic
    with calls as (
        select m.tenant_id, date_bin(step, m.window_start, 'epoch') as minute, m.model,
            sum(m.requests)::bigint as requests, sum(m.errors)::bigint as errors,
            histogram_merge(m.latency_zero, m.latency_index, m.latency_count) as latency,
            min(m.latency_min_us) as low, max(m.latency_max_us) as high,
            sum(m.prompt_tokens)::bigint as tokens_in, sum(m.completion_tokens)::bigint as tokens_out
        from llm_metrics as m
        where (of_tenant is null or m.tenant_id = of_tenant) and (of_model is null or m.model = of_model)
            and (since is null or m.window_start >= since) and (before is null or m.window_start < before)
            and m.window_start >= (select minutes_from from llm_history)
        group by 1, 2, 3
    ), told as (
        select f.tenant_id, date_bin(step, f.window_start, 'epoch') as minute, part[1] as model, part[2] as model_version,
            sum(f.requests)::bigint as requests, sum(f.errors)::bigint as errors,
            histogram_merge(f.latency_zero, f.latency_index, f.latency_count) as latency,
            min(f.latency_min_us) as low, max(f.latency_max_us) as high,
            sum(f.prompt_tokens)::bigint as tokens_in, sum(f.completion_tokens)::bigint as tokens_out
        from llm_facets as f, model_version_parts(f.value) as part
        where f.facet = 'model_version' and part[2] is not null
            and (of_tenant is null or f.tenant_id = of_tenant) and (of_model is null or part[1] = of_model)
            and (since is null or f.window_start >= since) and (before is null or f.window_start < before)
            and f.window_start >= (select minutes_from from llm_history)
        group by 1, 2, 3, 4
    ), told_in_all as (
        select t.tenant_id, t.minute, t.model, sum(t.requests) as requests, sum(t.errors) as errors,
            histogram_merge((t.latency).zero, (t.latency).index, (t.latency).count) as latency,
            sum(t.tokens_in) as tokens_in, sum(t.tokens_out) as tokens_out
        from told as t
        group by 1, 2, 3
    ), rest as (
        select c.tenant_id, c.minute, c.model, null::text as model_version,
            c.requests - coalesce(t.requests, 0)::bigint as requests, c.errors - coalesce(t.errors, 0)::bigint as errors,
            histogram_less(c.latency, t.latency) as latency, c.low, c.high,
            c.tokens_in - coalesce(t.tokens_in, 0)::bigint as tokens_in,
            c.tokens_out - coalesce(t.tokens_out, 0)::bigint as tokens_out
        from calls as c left join told_in_all as t using (tenant_id, minute, model)
    )
    select r.tenant_id, r.minute, r.model, r.model_version, r.requests, r.errors,
        histogram_quantile(0.50, r.latency, r.low, r.high) / 1000,
        histogram_quantile(0.95, r.latency, r.low, r.high) / 1000,
        histogram_quantile(0.99, r.latency, r.low, r.high) / 1000,
        r.tokens_in, r.tokens_out
    from (select * from told union all select * from rest where rest.requests > 0) as r
    order by r.minute desc, r.tenant_id, r.model, r.model_version nulls last
    limit most;
end;

-- Errors per tenant, class, route and model; `last_seen` is the start of the newest minute
-- that has one, or hour where there are hours.
create function errors_by_series(of_tenant text, since timestamptz, before timestamptz)
returns table (tenant_id text, error_type text, route text, model text, count bigint, last_seen timestamptz)
language sql stable parallel safe
begin atomic
    select m.tenant_id, e.key, m.route, m.model, sum(e.value::bigint)::bigint, max(m.window_start)
    from llm_metrics_between(since, before) as m, jsonb_each_text(m.error_types) as e
    where (of_tenant is null or m.tenant_id = of_tenant) and m.errors > 0
    group by 1, 2, 3, 4;
end;

-- Errors per class, the most frequent first, with its share of all errors, and the ten routes and models with the most.
create function errors_by_type(of_tenant text, since timestamptz, before timestamptz)
returns table (
    error_type text, count bigint, share double precision, last_seen timestamptz, routes text[], models text[]
)
language sql stable parallel safe
begin atomic
    with found as materialized (select * from errors_by_series(of_tenant, since, before))
    select f.error_type, sum(f.count)::bigint, (sum(f.count) / sum(sum(f.count)) over ())::double precision,
        max(f.last_seen),
        array(
            select s.route from found as s where s.error_type = f.error_type
            group by s.route order by sum(s.count) desc, s.route limit 10
        ),
        array(
            select s.model from found as s where s.error_type = f.error_type
            group by s.model order by sum(s.count) desc, s.model limit 10
        )
    from found as f
    group by f.error_type
    order by 2 desc, 1;
end;

-- All calls of a span in one row.
create function calls_summary(of_tenant text, since timestamptz, before timestamptz)
returns table (
    requests bigint, errors bigint, error_rate double precision, avg_latency_ms double precision,
    p50_latency_ms double precision, p95_latency_ms double precision, p99_latency_ms double precision,
    prompt_tokens bigint, completion_tokens bigint, estimated_cost_usd numeric, unpriced bigint,
    active_models bigint, active_routes bigint, tenants bigint
)
language sql stable parallel safe
begin atomic
    with merged as (
        select coalesce(sum(m.requests), 0)::bigint as requests, coalesce(sum(m.errors), 0)::bigint as errors,
            sum(m.latency_sum_us)::double precision as latency_sum_us,
            histogram_merge(m.latency_zero, m.latency_index, m.latency_count) as latency,
            min(m.latency_min_us) as low, max(m.latency_max_us) as high,
            coalesce(sum(m.prompt_tokens), 0)::bigint as prompt_tokens,
            coalesce(sum(m.completion_tokens), 0)::bigint as completion_tokens,
            sum(m.estimated_cost_usd) as estimated_cost_usd, coalesce(sum(m.unpriced), 0)::bigint as unpriced,
            count(distinct m.model) as models, count(distinct m.route) as routes, count(distinct m.tenant_id) as tenants
        from llm_metrics_between(since, before) as m
        where of_tenant is null or m.tenant_id = of_tenant
    )
    select a.requests, a.errors, a.errors / nullif(a.requests, 0)::double precision,
        a.latency_sum_us / 1000 / nullif(a.requests, 0),
        histogram_quantile(0.50, a.latency, a.low, a.high) / 1000,
        histogram_quantile(0.95, a.latency, a.low, a.high) / 1000,
        histogram_quantile(0.99, a.latency, a.low, a.high) / 1000,
        a.prompt_tokens, a.completion_tokens, a.estimated_cost_usd, a.unpriced, a.models, a.routes, a.tenants
    from merged as a;
end;

-- Calls per step, the oldest first, those without calls too. The first step is the one that `since` is in. Steps below an
-- hour are of minutes, and end where those do.
create function calls_over_time(
    of_tenant text, of_route text, of_model text, since timestamptz, before timestamptz, step interval
) returns table (
    at timestamptz, requests bigint, errors bigint,
    p50_latency_ms double precision, p95_latency_ms double precision, p99_latency_ms double precision,
    prompt_tokens bigint, completion_tokens bigint, estimated_cost_usd numeric
)
language sql stable parallel safe
begin atomic
    with merged as (
        select date_bin(step, m.window_start, 'epoch') as at, sum(m.requests)::bigint as requests,
            sum(m.errors)::bigint as errors,
            histogram_merge(m.latency_zero, m.latency_index, m.latency_count) as latency,
            min(m.latency_min_us) as low, max(m.latency_max_us) as high,
            sum(m.prompt_tokens)::bigint as prompt_tokens, sum(m.completion_tokens)::bigint as completion_tokens,
            sum(m.estimated_cost_usd) as estimated_cost_usd
        from (
            select tenant_id, route, model, window_start, requests, errors, latency_min_us, latency_max_us,
                latency_zero, latency_index, latency_count, prompt_tokens, completion_tokens, estimated_cost_usd
            from llm_metrics_between(since, before)
            where step >= interval '1 hour'
            union all
            select tenant_id, route, model, window_start, requests, errors, latency_min_us, latency_max_us,
                latency_zero, latency_index, latency_count, prompt_tokens, completion_tokens, estimated_cost_usd
            from llm_metrics
            where step < interval '1 hour' and window_start >= since and window_start < before
                and window_start >= (select minutes_from from llm_history)
        ) as m
        where (of_tenant is null or m.tenant_id = of_tenant) and (of_route is null or m.route = of_route)
            and (of_model is null or m.model = of_model)
        group by 1
    )
    select s.at, coalesce(a.requests, 0), coalesce(a.errors, 0),
        histogram_quantile(0.50, a.latency, a.low, a.high) / 1000,
        histogram_quantile(0.95, a.latency, a.low, a.high) / 1000,
        histogram_quantile(0.99, a.latency, a.low, a.high) / 1000,
        coalesce(a.prompt_tokens, 0), coalesce(a.completion_tokens, 0), a.estimated_cost_usd
    from generate_series(date_bin(step, since, 'epoch'), before - interval '1 microsecond', step) as s (at)
        left join merged as a using (at)
    order by s.at;
end;

-- Calls per provider, the most first. Provider null: those that tell none, or told it longer ago than facets are kept.
create function calls_by_provider(of_tenant text, since timestamptz, before timestamptz)
returns table (
    provider text, requests bigint, errors bigint, error_rate double precision,
    avg_latency_ms double precision, p95_latency_ms double precision,
    prompt_tokens bigint, completion_tokens bigint, estimated_cost_usd numeric, unpriced bigint, share double precision
)
language sql stable parallel safe
begin atomic
    with told as (
        select f.value as provider, sum(f.requests) as requests, sum(f.errors) as errors,
            sum(f.latency_sum_us) as latency_sum_us,
            histogram_merge(f.latency_zero, f.latency_index, f.latency_count) as latency,
            min(f.latency_min_us) as low, max(f.latency_max_us) as high,
            sum(f.prompt_tokens) as prompt_tokens, sum(f.completion_tokens) as completion_tokens,
            sum(f.priced) as priced, sum(f.estimated_cost_usd) as cost_usd, sum(f.unpriced) as unpriced
        from llm_facets_between(since, before) as f
        where f.facet = 'provider' and (of_tenant is null or f.tenant_id = of_tenant)
        group by 1
    ), calls as (
        select sum(m.requests) as requests, sum(m.errors) as errors, sum(m.latency_sum_us) as latency_sum_us,
            histogram_merge(m.latency_zero, m.latency_index, m.latency_count) as latency,
            min(m.latency_min_us) as low, max(m.latency_max_us) as high,
            sum(m.prompt_tokens) as prompt_tokens, sum(m.completion_tokens) as completion_tokens,
            sum(m.priced) as priced, sum(m.estimated_cost_usd) as cost_usd, sum(m.unpriced) as unpriced
        from llm_metrics_between(since, before) as m
        where of_tenant is null or m.tenant_id = of_tenant
    ), told_in_all as (
        select coalesce(sum(t.requests), 0) as requests, coalesce(sum(t.errors), 0) as errors,
            coalesce(sum(t.latency_sum_us), 0) as latency_sum_us,
            histogram_merge((t.latency).zero, (t.latency).index, (t.latency).count) as latency,
            coalesce(sum(t.prompt_tokens), 0) as prompt_tokens, coalesce(sum(t.completion_tokens), 0) as completion_tokens,
            coalesce(sum(t.priced), 0) as priced, coalesce(sum(t.cost_usd), 0) as cost_usd,
            coalesce(sum(t.unpriced), 0) as unpriced
        from told as t
    ), rest as (
        select null::text as provider, c.requests - t.requests as requests, c.errors - t.errors as errors,
            c.latency_sum_us - t.latency_sum_us as latency_sum_us, histogram_less(c.latency, t.latency) as latency,
            c.low, c.high, c.prompt_tokens - t.prompt_tokens as prompt_tokens,
            c.completion_tokens - t.completion_tokens as completion_tokens, c.priced - t.priced as priced,
            case when c.priced > t.priced then c.cost_usd - t.cost_usd end as cost_usd, c.unpriced - t.unpriced as unpriced
        from calls as c, told_in_all as t
        where c.requests > t.requests
    )
    select r.provider, r.requests::bigint, r.errors::bigint, (r.errors / r.requests)::double precision,
        (r.latency_sum_us / r.requests)::double precision / 1000,
        histogram_quantile(0.95, r.latency, r.low, r.high) / 1000,
        r.prompt_tokens::bigint, r.completion_tokens::bigint, r.cost_usd, r.unpriced::bigint,
        (r.requests / sum(r.requests) over ())::double precision
    from (select * from told union all select * from rest) as r
    where r.requests > 0
    order by r.requests desc, r.provider nulls last;
end;
