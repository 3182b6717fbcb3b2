-- Calls that are kept whole: of each tenant and minute the first errors of each class, the slowest, and a sample. A row is a
-- place that calls may take one after the other; with an empty `kept` it is free, and no call.
create table llm_calls (
    id bytea primary key,                  -- of the place
    tenant_id text not null,
    request_id text not null,
    at timestamptz not null,               -- of the request
    kept text[] not null,                  -- why: error, slow, sample
    route text not null,
    model text not null,
    provider text,
    latency_us bigint not null,
    ttft_us bigint,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    cached_tokens bigint not null,
    cache_write_tokens bigint not null,
    reasoning_tokens bigint not null,
    estimated_cost_usd numeric,            -- null: its price is not known
    error_type text,                       -- null: it is no error
    error_type_raw text,                   -- as it was sent, where it is none of the classes
    error text,
    finish_reason text,
    user_id_hash text,
    session_id text,
    experiment text,
    variant text,
    prompt_version text,
    model_version text,
    region text,
    client_app text,
    client_os text,
    stream boolean,
    metadata jsonb,
    prompt text,                           -- this and the response: null unless content is captured
    response text,
    version bigint[] not null,
    updated_at timestamptz not null default now()
);

create index llm_calls_by_tenant on llm_calls (tenant_id, at desc, id desc);
create index llm_calls_by_latency on llm_calls (tenant_id, latency_us desc, id desc);
create index llm_calls_by_time on llm_calls (at desc, id desc);
create index llm_calls_by_request on llm_calls (request_id, tenant_id);
create index llm_calls_by_session on llm_calls (session_id, tenant_id, at) where session_id is not null;
