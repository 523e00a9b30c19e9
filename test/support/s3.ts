import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { startFauxqs } from 'fauxqs';

/** A server that speaks S3, with a bucket. */
export interface TestS3 {
  readonly endpoint: URL;
  has(bucket: string, key: string): Promise<boolean>;
  read(bucket: string, key: string): Promise<Buffer>;
  /** Puts a text there, or takes what is there away. */
  replace(bucket: string, key: string, text: string | undefined): Promise<void>;
  stop(): Promise<void>;
}

/** For the SDK's own chain, here and in processes that a test starts. */
export const S3_CREDENTIALS = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'of-the-test' };

export async function startS3(bucket: string): Promise<TestS3> {
  Object.assign(process.env, S3_CREDENTIALS);
  const server = await startFauxqs({ port: 0, logger: false });
  const endpoint = new URL(`http://127.0.0.1:${server.port}`);
  const client = new S3Client({ endpoint: endpoint.href, forcePathStyle: true, region: 'us-east-1' });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  return {
    endpoint,
    has: (name, key) =>
      client.send(new HeadObjectCommand({ Bucket: name, Key: key })).then(
        () => true,
        () => false,
      ),
    async read(name, key) {
      const { Body: body } = await client.send(new GetObjectCommand({ Bucket: name, Key: key }));
      return Buffer.from(await body!.transformToByteArray());
    },
    async replace(name, key, text) {
      const object = { Bucket: name, Key: key };
      if (text === undefined) await client.send(new DeleteObjectCommand(object));
      else await client.send(new PutObjectCommand({ ...object, Body: text }));
    },
    async stop() {
      client.destroy();
      await server.stop();
    },
  };
}
