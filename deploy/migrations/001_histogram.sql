-- Base-2 exponential histograms of scale 5, as streamlens/histogram.py writes them: bucket i covers
-- (2^(i/32), 2^((i+1)/32)], zeros are counted apart, a quantile is wrong by 1.09 % at most. Histograms merge by addition:
--
--   select histogram_quantile(0.99, histogram_merge(latency_zero, latency_index, latency_count)) / 1000 as p99_ms
--   from llm_metrics where tenant_id = 'acme' and window_start >= now() - interval '7 days';

create type histogram as (
    zero bigint,
    index integer[],   -- ascending
    count bigint[]     -- count[k] values lie in bucket index[k]
);

-- The value that stands for a bucket: the harmonic mean of its bounds.
create function histogram_representative(bucket integer) returns double precision
language sql immutable strict parallel safe
return 2 * power(2, bucket / 32::double precision) * power(2, (bucket + 1) / 32::double precision)
    / (power(2, bucket / 32::double precision) + power(2, (bucket + 1) / 32::double precision));

-- The q-quantile (nearest rank) in the unit of the values; clamped to [min, max] where they are given; null without values.
create function histogram_quantile(
    q double precision, zero bigint, index integer[], count bigint[],
    min double precision default null, max double precision default null
) returns double precision
language plpgsql immutable parallel safe as $$
declare
    total bigint := coalesce(zero, 0);
    seen bigint := coalesce(zero, 0);
    rank bigint;
    n bigint;
    k integer := 0;
begin
    foreach n in array coalesce(count, '{}') loop
        total := total + n;
    end loop;
    if total = 0 then
        return null;
    end if;
    rank := greatest(1, ceil(q * total));
    if rank <= seen then
        return 0;
    end if;
    foreach n in array count loop
        k := k + 1;
        seen := seen + n;
        exit when seen >= rank;
    end loop;
    return least(greatest(histogram_representative(index[k]), min), max);
end $$;

create function histogram_quantile(
    q double precision, merged histogram, min double precision default null, max double precision default null
) returns double precision
language sql immutable parallel safe
return histogram_quantile(q, (merged).zero, (merged).index, (merged).count, min, max);

-- The state of the aggregate: element 0 counts the zeros, element i + 2 the bucket i (the lowest, 1 µs, is -1).
create function histogram_merge_add(state bigint[], zero bigint, index integer[], count bigint[]) returns bigint[]
language plpgsql immutable parallel safe as $$
begin
    state[0] := coalesce(state[0], 0) + coalesce(zero, 0);
    for k in 1 .. coalesce(cardinality(index), 0) loop
        state[index[k] + 2] := coalesce(state[index[k] + 2], 0) + count[k];
    end loop;
    return state;
end $$;

create function histogram_merge_combine(one bigint[], other bigint[]) returns bigint[]
language sql immutable parallel safe
begin atomic
    select histogram_merge_add(one, other[0], array_agg(i - 2 order by i), array_agg(other[i] order by i))
    from generate_series(1, array_upper(other, 1)) as i
    where other[i] is not null;
end;

create function histogram_merge_final(state bigint[]) returns histogram
language sql immutable parallel safe
begin atomic
    select row(
        coalesce(state[0], 0),
        coalesce(array_agg(i - 2 order by i), '{}'),
        coalesce(array_agg(state[i] order by i), '{}')
    )::histogram
    from generate_series(1, array_upper(state, 1)) as i
    where state[i] is not null;
end;

-- The sum of histograms. Takes the columns as they are stored: histogram_merge(latency_zero, latency_index, latency_count).
create aggregate histogram_merge(zero bigint, index integer[], count bigint[]) (
    sfunc = histogram_merge_add,
    stype = bigint[],
    initcond = '[0:0]={0}',
    combinefunc = histogram_merge_combine,
    finalfunc = histogram_merge_final,
    parallel = safe
);
