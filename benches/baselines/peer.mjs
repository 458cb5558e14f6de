// The published peer: pg-listen and ioredis from npm, wired as their READMEs show.
import createSubscriber from "pg-listen";
import Redis from "ioredis";

const [postgres, redisUrl, way, template] = process.argv.slice(2);
const redis = new Redis(redisUrl);
const subscriber = createSubscriber({ connectionString: postgres });

subscriber.events.on("error", (error) => {
  console.error("fatal:", error);
  process.exit(1);
});

subscriber.notifications.on("changes", async (event) => {
  const key = template.replace(/\{(\w+)\}/g, (_, column) => event[column]);
  if (way === "del") {
    await redis.del(key);
    return;
  }
  for await (const found of redis.scanStream({ match: key, count: 1000 })) {
    if (found.length > 0) await redis.del(...found);
  }
});

await subscriber.connect();
await subscriber.listenTo("changes");
console.log("listening");
