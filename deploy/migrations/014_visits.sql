-- Users and sessions: a row for each visitor, route and day (UTC) on which it called. A user is a keyed hash, which is its
-- tenant's own; a session the id that came with its calls. `id` is a hash of the names and the day.
create table llm_visits (
    id bytea primary key,
    tenant_id text not null,
    kind text not null,                    -- user or session
    visitor text not null,
    route text not null,
    first_at timestamptz not null,         -- begin of the first call
    first_model text not null,             -- its model
    minutes smallint[] not null,           -- those of the day (0 to 1439) in which a call began, ascending
    -- what a session used; null for users
    last_at timestamptz,                   -- begin of the last call
    user_hash text,                        -- the session's user, null where no call tells it
    calls bigint,
    errors bigint,
    prompt_tokens bigint,
    completion_tokens bigint,
    estimated_cost_usd numeric,            -- exact; null when nothing was priced
    priced bigint,
    unpriced bigint,
    version bigint[] not null,
    updated_at timestamptz not null default now(),

    day date generated always as ((first_at at time zone 'UTC')::date) stored
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);

create index llm_visits_by_tenant on llm_visits (tenant_id, kind, first_at desc);
create index llm_visits_by_visitor on llm_visits (visitor, tenant_id, kind, first_at);
create index llm_visits_by_user on llm_visits (user_hash, first_at desc) where user_hash is not null;
create index llm_visits_by_time on llm_visits (kind, first_at desc);

-- Each session as a whole. `routes` in the order in which it came to them.
create view llm_sessions as
select tenant_id, visitor as session_id, min(user_hash collate "C") as user_hash,
    min(started_at) as started_at, max(last_at) as last_at, sum(calls)::bigint as calls, sum(errors)::bigint as errors,
    sum(prompt_tokens)::bigint as prompt_tokens, sum(completion_tokens)::bigint as completion_tokens,
    sum(estimated_cost_usd) as estimated_cost_usd, sum(priced)::bigint as priced, sum(unpriced)::bigint as unpriced,
    array_agg(route order by started_at, route collate "C") as routes
from (
    select tenant_id, visitor, route, min(user_hash collate "C") as user_hash,
        min(first_at) as started_at, max(last_at) as last_at, sum(calls) as calls, sum(errors) as errors,
        sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens,
        sum(estimated_cost_usd) as estimated_cost_usd, sum(priced) as priced, sum(unpriced) as unpriced
    from llm_visits
    where kind = 'session'
    group by tenant_id, visitor, route
) as routes
group by tenant_id, visitor;

-- The cohort of a date and how many of it came back: its users are those whose first day, of all that is stored, is that
-- date. A row for each day on which any of them called, 0 being the date itself, and, by 'route' or 'model', for each value
-- that their first calls had.
--
--   select day, users from llm_retention('2026-11-20', 'acme', days => 7);
create function llm_retention(
    cohort_date date, of_tenant text default null, days integer default 7, grouped_by text default null
) returns table (value text, day integer, users bigint)
language sql stable parallel safe
begin atomic
    with newcomers as (
        select tenant_id, visitor,
            (array_agg(
                case grouped_by when 'route' then route when 'model' then first_model end
                order by first_at, case grouped_by when 'route' then route else first_model end collate "C"
            ))[1] as value
        from llm_visits as first_day
        where kind = 'user' and (of_tenant is null or tenant_id = of_tenant)
            and first_at >= cohort_date::timestamp at time zone 'UTC'
            and first_at < (cohort_date + 1)::timestamp at time zone 'UTC'
            and not exists (
                select from llm_visits as earlier
                where earlier.visitor = first_day.visitor and earlier.tenant_id = first_day.tenant_id
                    and earlier.kind = 'user' and earlier.first_at < cohort_date::timestamp at time zone 'UTC'
            )
        group by tenant_id, visitor
    )
    select newcomers.value, seen.day - cohort_date, count(distinct (seen.tenant_id, seen.visitor))
    from newcomers join llm_visits as seen using (tenant_id, visitor)
    where seen.kind = 'user' and (of_tenant is null or seen.tenant_id = of_tenant)
        and seen.first_at >= cohort_date::timestamp at time zone 'UTC'
        and seen.first_at < (cohort_date + days + 1)::timestamp at time zone 'UTC'
    group by 1, 2;
end;

-- How many users or sessions reached each step: a call to the step's route, at the earliest in the minute in which the step
-- before it was reached. Minutes count that begin in [first, last).
--
--   select step, reached from llm_funnel('{search,chat}', 'user', 'acme', now() - interval '7 days', now());
create function llm_funnel(
    steps text[], of_kind text, of_tenant text, first timestamptz, last timestamptz
) returns table (step integer, reached bigint)
language sql stable parallel safe
begin atomic
    with recursive span as (
        select ceil(extract(epoch from first) / 60)::integer as first_minute,
            ceil(extract(epoch from last) / 60)::integer as end_minute
    ), seen as materialized (
        select tenant_id, visitor, route, minutes, (day - date '1970-01-01') * 1440 as midnight
        from llm_visits
        where kind = of_kind and route = any(steps) and (of_tenant is null or tenant_id = of_tenant)
            and first_at >= date_trunc('day', first, 'UTC') and first_at < last + interval '1 minute'
    ), reached (step, tenant_id, visitor, at_minute) as (
        select 1, tenant_id, visitor, min(midnight + minute)
        from seen, span, unnest(minutes) as minute
        where route = steps[1] and midnight + minute >= first_minute and midnight + minute < end_minute
        group by tenant_id, visitor
        union all
        select * from (
            select distinct on (reached.tenant_id, reached.visitor)
                reached.step + 1, reached.tenant_id, reached.visitor, midnight + next.minute
            from reached
                join seen on seen.tenant_id = reached.tenant_id and seen.visitor = reached.visitor
                    and seen.route = steps[reached.step + 1]
                cross join span, lateral (
                    select min(minute) as minute from unnest(minutes) as minute where midnight + minute >= at_minute
                ) as next
            where midnight + next.minute < end_minute
            order by reached.tenant_id, reached.visitor, midnight + next.minute
        ) as earliest
    )
    select step, count(*) from reached group by step;
end;
