// The same with an exporter in JavaScript: `node --input-type=module - MODULE ENDPOINT TENANT COUNT < send.mjs`, where it
// is installed.
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const [module, url, tenant, count] = process.argv.slice(2);
const { OTLPTraceExporter } = await import(module);
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "shop", "tenant.id": tenant }),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url }), { maxQueueSize: Number(count) + 1 })],
});
const tracer = provider.getTracer("test");
for (let number = 0; number < Number(count); number++) {
  const attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m-1",
    "gen_ai.usage.input_tokens": number ? 10 : -1,
    "gen_ai.usage.output_tokens": 2,
  };
  tracer.startSpan("chat m-1", { attributes, startTime: Date.now() - 100 }).end();
}
await provider.shutdown();
