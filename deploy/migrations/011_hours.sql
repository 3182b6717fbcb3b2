-- Hours of llm_metrics and llm_facets, for questions about long spans. An hour is added up once nothing can change its
-- minutes any more, so its rows are written once, and equal the sum of its minutes for ever.

-- Where the rows of a span are: whole hours before `hours_until` in llm_metrics_hourly and llm_facets_hourly, the minutes
-- from `minutes_from` on in llm_metrics and llm_facets. In between they are in both. Rows of hours from `hours_until` on
-- belong to an hour that is being added up, minutes before `minutes_from` are being deleted: neither counts.
create table llm_history (
    one boolean primary key default true check (one),
    hours_until timestamptz not null default 'epoch',
    minutes_from timestamptz not null default 'epoch' check (minutes_from <= hours_until)
);
insert into llm_history default values;

-- Up to where each partition of stage two has written all that it ever will: its windows that begin before `settled_until`
-- have expired, and their rows are in these tables as they will stay.
create table llm_settled (
    partition integer primary key,
    settled_until timestamptz not null,
    version bigint[] not null,
    updated_at timestamptz not null default now()
) with (fillfactor = 60);

create table llm_metrics_hourly (like llm_metrics including defaults including generated);
alter table llm_metrics_hourly drop column version;
alter table llm_metrics_hourly alter column revision type bigint;
alter table llm_metrics_hourly add primary key (tenant_id, route, model, window_start);
create index llm_metrics_hourly_by_tenant on llm_metrics_hourly (tenant_id, window_start desc);
create index llm_metrics_hourly_by_time on llm_metrics_hourly (window_start desc);

create table llm_facets_hourly (like llm_facets including defaults including generated);
alter table llm_facets_hourly drop column version;
alter table llm_facets_hourly alter column revision type bigint;
alter table llm_facets_hourly add primary key (tenant_id, facet, value, window_start);
create index llm_facets_hourly_by_facet on llm_facets_hourly (tenant_id, facet, window_start desc);
create index llm_facets_hourly_by_time on llm_facets_hourly (window_start desc);

-- The whole hours in [since, before) that are there: [first, last). Before and after them are minutes.
create function llm_hours_between(since timestamptz, before timestamptz)
returns table (first timestamptz, last timestamptz, minutes_from timestamptz)
language sql stable parallel safe
begin atomic
    select date_bin('1 hour', since + interval '1 hour' - interval '1 microsecond', 'epoch'),
        greatest(
            date_bin('1 hour', since + interval '1 hour' - interval '1 microsecond', 'epoch'),
            least(date_bin('1 hour', before, 'epoch'), h.hours_until)
        ),
        h.minutes_from
    from llm_history as h;
end;

-- All calls of [since, before), each once: hours where whole ones will do, minutes else. For sums over long spans.
create view llm_metrics_whole as
    select tenant_id, route, model, window_start, window_end, requests, errors, error_types,
        latency_sum_us, latency_min_us, latency_max_us, latency_zero, latency_index, latency_count,
        ttft_requests, ttft_sum_us, ttft_min_us, ttft_max_us, ttft_zero, ttft_index, ttft_count,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        priced, partly_priced, unpriced, reported, price_versions, estimated_cost_usd, revision, final
    from llm_metrics_hourly;

create function llm_metrics_between(since timestamptz, before timestamptz) returns setof llm_metrics_whole
language sql stable parallel safe
begin atomic
    select rows.* from llm_metrics_whole as rows, llm_hours_between(since, before) as hours
        where window_start >= hours.first and window_start < hours.last
    union all
    select tenant_id, route, model, window_start, window_end, requests, errors, error_types,
        latency_sum_us, latency_min_us, latency_max_us, latency_zero, latency_index, latency_count,
        ttft_requests, ttft_sum_us, ttft_min_us, ttft_max_us, ttft_zero, ttft_index, ttft_count,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        priced, partly_priced, unpriced, reported, price_versions, estimated_cost_usd, revision, final
    from llm_metrics, llm_hours_between(since, before) as hours
        where window_start >= since and window_start < least(hours.first, before) and window_start >= minutes_from
    union all
    select tenant_id, route, model, window_start, window_end, requests, errors, error_types,
        latency_sum_us, latency_min_us, latency_max_us, latency_zero, latency_index, latency_count,
        ttft_requests, ttft_sum_us, ttft_min_us, ttft_max_us, ttft_zero, ttft_index, ttft_count,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        priced, partly_priced, unpriced, reported, price_versions, estimated_cost_usd, revision, final
    from llm_metrics, llm_hours_between(since, before) as hours
        where window_start >= hours.last and window_start < before and window_start >= minutes_from;
end;

create view llm_facets_whole as
    select tenant_id, facet, value, window_start, window_end, requests, errors, error_types,
        latency_sum_us, latency_min_us, latency_max_us, latency_zero, latency_index, latency_count,
        ttft_requests, ttft_sum_us, ttft_min_us, ttft_max_us, ttft_zero, ttft_index, ttft_count,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        priced, partly_priced, unpriced, reported, price_versions, estimated_cost_usd, revision, final
    from llm_facets_hourly;

create function llm_facets_between(since timestamptz, before timestamptz) returns setof llm_facets_whole
language sql stable parallel safe
begin atomic
    select rows.* from llm_facets_whole as rows, llm_hours_between(since, before) as hours
        where window_start >= hours.first and window_start < hours.last
    union all
    select tenant_id, facet, value, window_start, window_end, requests, errors, error_types,
        latency_sum_us, latency_min_us, latency_max_us, latency_zero, latency_index, latency_count,
        ttft_requests, ttft_sum_us, ttft_min_us, ttft_max_us, ttft_zero, ttft_index, ttft_count,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        priced, partly_priced, unpriced, reported, price_versions, estimated_cost_usd, revision, final
    from llm_facets, llm_hours_between(since, before) as hours
        where window_start >= since and window_start < least(hours.first, before) and window_start >= minutes_from
    union all
    select tenant_id, facet, value, window_start, window_end, requests, errors, error_types,
        latency_sum_us, latency_min_us, latency_max_us, latency_zero, latency_index, latency_count,
        ttft_requests, ttft_sum_us, ttft_min_us, ttft_max_us, ttft_zero, ttft_index, ttft_count,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        priced, partly_priced, unpriced, reported, price_versions, estimated_cost_usd, revision, final
    from llm_facets, llm_hours_between(since, before) as hours
        where window_start >= hours.last and window_start < before and window_start >= minutes_from;
end;
