import type { Dispatcher } from 'undici';
// The whole of undici has fetch, web sockets, caches and mocks in it: 9 MB of resident memory that nobody here uses.
import request from 'undici/lib/api/api-request.js';
import EnvHttpProxyAgent from 'undici/lib/dispatcher/env-http-proxy-agent.js';

/** Connections kept open to whatever is asked, through HTTPS_PROXY where it and NO_PROXY say so. Redirects are not
 * followed. */
export class HttpAgent extends EnvHttpProxyAgent {
  /** One request to `options.origin`. What undici gives its dispatchers only once all of it is loaded. */
  override request<T = null>(options: Dispatcher.RequestOptions<T>): Promise<Dispatcher.ResponseData<T>> {
    return request.call(this, options as Dispatcher.RequestOptions) as Promise<Dispatcher.ResponseData<T>>;
  }
}
