import type { Dispatcher } from 'undici';
// The whole of undici has fetch, web sockets, caches and mocks in it: 9 MB of resident memory that nobody here uses.
import connect from 'undici/lib/api/api-connect.js';
import request from 'undici/lib/api/api-request.js';
import EnvHttpProxyAgent from 'undici/lib/dispatcher/env-http-proxy-agent.js';
import Pool from 'undici/lib/dispatcher/pool.js';
import { unlessAborted } from './wait.ts';

/** How long connecting may take, in milliseconds; undici's own default. */
const CONNECT_TIMEOUT = 10_000;

/** Connections kept open to whatever is asked, through HTTPS_PROXY where it and NO_PROXY say so. Redirects are not
 * followed. */
export class HttpAgent extends EnvHttpProxyAgent {
  constructor(options: EnvHttpProxyAgent.Options = {}) {
    const { connectTimeout = CONNECT_TIMEOUT } = options;
    super({
      ...options,
      // Who asks the proxy to connect: undici gives it the means only once all of it is loaded, and minutes for that.
      clientFactory: (proxy, given) =>
        Object.assign(new Pool(proxy, { ...given, headersTimeout: connectTimeout }), { connect }),
    });
  }

  /**
   * One request to `options.origin`. What undici gives its dispatchers only once all of it is loaded.
   * @throws the signal's reason as soon as it is aborted: undici heeds it only once the request has a connection.
   */
  override async request<T = null>(
    options: Dispatcher.RequestOptions<T> & { readonly signal: AbortSignal },
  ): Promise<Dispatcher.ResponseData<T>> {
    const answer = request.call(this, options as Dispatcher.RequestOptions);
    return (await unlessAborted(answer, options.signal)) as Dispatcher.ResponseData<T>;
  }
}
