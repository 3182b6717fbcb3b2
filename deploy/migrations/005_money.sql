-- By which prices the calls of a row were priced. priced + unpriced = requests; of the priced, `reported` came with their
-- cost, the others are counted in `price_versions` by the catalogue or file that had the price; `partly_priced` ones have
-- tokens of a kind that has no price of its own, for which another one stood in.

alter table llm_metrics
    add column partly_priced bigint not null default 0,
    add column reported bigint not null default 0,
    add column price_versions jsonb not null default '{}';

create function price_versions_names(counts jsonb) returns text[]
language sql immutable parallel safe
return array(select name from jsonb_object_keys(counts) as name order by name collate "C");

-- The names in many rows' `price_versions`, ascending.
create function price_versions_add(state text[], counts jsonb) returns text[]
language plpgsql immutable parallel safe as $$
begin
    if counts - state = '{}' then  -- nearly always: nothing new
        return state;
    end if;
    return state || array(select jsonb_object_keys(counts - state));
end $$;

create function price_versions_combine(one text[], other text[]) returns text[]
language sql immutable parallel safe
return array(select unnest(one) union select unnest(other));

create function price_versions_final(state text[]) returns text[]
language sql immutable parallel safe
return array(select name from unnest(state) as name order by name collate "C");

create aggregate price_versions_merge(jsonb) (
    sfunc = price_versions_add,
    stype = text[],
    initcond = '{}',
    combinefunc = price_versions_combine,
    finalfunc = price_versions_final,
    parallel = safe
);
