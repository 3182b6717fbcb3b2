-- The same answers as before from one look at the days of a cohort, by a plan that does not depend on statistics: before
-- PostgreSQL had gathered any, the table was joined with itself row by row.
create or replace function llm_retention(
    cohort_date date, of_tenant text default null, days integer default 7, grouped_by text default null
) returns table (value text, day integer, users bigint)
language sql stable parallel safe
begin atomic
    with seen as (
        select tenant_id, visitor, array_agg(distinct day) as days,
            (array_agg(
                case grouped_by when 'route' then route when 'model' then first_model end
                order by first_at, case grouped_by when 'route' then route else first_model end collate "C"
            ))[1] as value
        from llm_visits
        where kind = 'user' and (of_tenant is null or tenant_id = of_tenant)
            and first_at >= cohort_date::timestamp at time zone 'UTC'
            and first_at < (cohort_date + days + 1)::timestamp at time zone 'UTC'
        group by tenant_id, visitor
        having min(day) = cohort_date
    )
    select value, seen_on - cohort_date, count(*)
    from seen, unnest(seen.days) as seen_on
    where not exists (
        -- `is not distinct from` is no use to an index, which leaves the one that begins with the visitor: before the
        -- first `analyze` one that begins with the tenant looks as good, and reads all of the tenant's rows each time.
        select from llm_visits as earlier
        where earlier.visitor = seen.visitor and earlier.tenant_id is not distinct from seen.tenant_id
            and earlier.kind = 'user' and earlier.first_at < cohort_date::timestamp at time zone 'UTC'
    )
    group by 1, 2;
end;
