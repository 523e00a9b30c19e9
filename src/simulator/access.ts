/**
 * API keys: which connections one reaches, and what `/v1/me` tells of it. The header rule is the documented one:
 * `X-WhatsApp-Use-Connection-Id` may be left out only by a key that reaches exactly one connection.
 */
import type { Connection } from './connection.ts';
import type { World } from './world.ts';

/**
 * How `/v1/me` lists the connections; the vendor's document leaves its shape open. `ids`: strings in
 * `connection_ids`; `objects`: objects with `id` in `connections`; `nested`: objects with `connection_id`, deeper;
 * `none`: not at all; a function writes the whole body.
 */
export type MeShape = 'ids' | 'objects' | 'nested' | 'none' | (() => string);

export interface KeyOptions {
  readonly key: string;
  /** Absent = every connection of the world, later ones too. */
  readonly connections?: readonly string[];
  readonly meShape?: MeShape;
  readonly scopes?: readonly string[];
  readonly organization?: string;
}

export class AccessKey {
  readonly key: string;
  readonly organization: string;
  meShape: MeShape;
  scopes: string[];
  /** Null = all. */
  connectionIds: string[] | null;
  /** False: 402 on every `/v1/whatsapp` route. */
  paid = true;
  readonly #world: World;

  constructor(world: World, options: KeyOptions) {
    this.#world = world;
    this.key = options.key;
    this.meShape = options.meShape ?? 'ids';
    this.scopes = [...(options.scopes ?? ['whatsapp:read', 'webhooks:manage'])];
    this.organization = options.organization ?? 'org_simulated';
    this.connectionIds = options.connections ? [...options.connections] : null;
  }

  /** The connections within reach. */
  reach(): Connection[] {
    const all = [...this.#world.connections.values()];
    return this.connectionIds === null ? all : all.filter(({ id }) => this.connectionIds!.includes(id));
  }

  /** The one connection that a request means, or why there is none. */
  resolve(header: string | undefined): Connection | { readonly status: number; readonly error: string } {
    const reach = this.reach();
    if (header !== undefined && header !== '') {
      return reach.find(({ id }) => id === header) ?? { status: 404, error: 'connection not found' };
    }
    if (reach.length > 1) return { status: 400, error: 'X-WhatsApp-Use-Connection-Id is required' };
    return reach[0] ?? { status: 409, error: 'no WhatsApp connection has been set up' };
  }

  /** The body of `/v1/me`. */
  meText(): string {
    if (typeof this.meShape === 'function') return this.meShape();
    const reach = this.reach();
    const about = { organization_id: this.organization, scopes: this.scopes };
    const paths = { status: '/v1/whatsapp/status', sync: '/v1/whatsapp/sync' };
    switch (this.meShape) {
      case 'ids':
        return JSON.stringify({ ...about, connection_ids: reach.map(({ id }) => id), endpoints: paths });
      case 'objects':
        return JSON.stringify({
          ...about,
          all_connections: this.connectionIds === null,
          connections: reach.map(({ id, jid }) => ({ id, jid })),
          endpoints: paths,
        });
      case 'nested':
        return JSON.stringify({
          api_key: { ...about, access: { connections: reach.map(({ id }) => ({ connection_id: id })) } },
          endpoints: paths,
        });
      case 'none':
        return JSON.stringify({ ...about, endpoints: paths });
    }
  }
}
