// Reads {"query", "data"} as JSON, and runs the query over the data by GitHub's published schema: prints the result.
import { readFileSync } from "node:fs";
import { buildSchema, graphqlSync, parse, validate } from "graphql";

const schema = buildSchema(readFileSync("node_modules/@octokit/graphql-schema/schema.graphql", "utf8"), {
  assumeValidSDL: true, // it defines two fields twice
});
const { query, data } = JSON.parse(readFileSync(0, "utf8"));
const errors = validate(schema, parse(query));
console.log(JSON.stringify(errors.length ? { errors } : graphqlSync({ schema, source: query, rootValue: data })));
