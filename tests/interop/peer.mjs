// A js-libp2p peer with gossipsub, driven by a test over its standard streams, a line of JSON at a time:
//
//   <- {"event": "started", "peer": "12D3KooW...", "addresses": ["/ip4/127.0.0.1/tcp/.../p2p/12D3KooW..."]}
//   -> {"id": 1, "do": "publish", "topic": "...", "data": "base64"}
//   <- {"id": 1, "result": {"recipients": 3}}        or, if it failed, {"id": 1, "error": "..."}
//   <- {"event": "message", "topic": "...", "data": "base64", "from": "12D3KooW...", "id": "hex"}
//
// Commands run side by side, so answers may come in another order. The peer ends with its standard input. Its
// one argument may change what it is: `{"policy": "StrictSign", "key": "secp256k1"}`.

import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

// Node 20 has no such function yet; js-libp2p only calls it once it runs.
Promise.withResolvers ??= () => {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

const options = JSON.parse(process.argv[2] ?? '{}')

const peer = await createLibp2p({
  privateKey: await generateKeyPair(options.key ?? 'Ed25519'),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    identifyPush: identifyPush(),
    ping: ping(),
    // What fondaco asks of whoever joins its gossip: messages without an author, known by their content.
    pubsub: gossipsub({
      globalSignaturePolicy: options.policy ?? 'StrictNoSign',
      msgIdFn: (message) => createHash('sha256').update(message.data).digest().subarray(0, 20),
      msgIdToStrFn: (id) => Buffer.from(id).toString('hex')
    })
  }
})
const pubsub = peer.services.pubsub

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

function connectionTo (id) {
  const found = peer.getConnections().find((connection) => connection.remotePeer.toString() === id)
  if (found == null) {
    throw new Error(`not connected to ${id}`)
  }
  return found
}

const commands = {
  async dial ({ address }) {
    const connection = await peer.dial(multiaddr(address))
    return { peer: connection.remotePeer.toString() }
  },

  async ping ({ peer: id }) {
    return { ms: await peer.services.ping.ping(connectionTo(id).remotePeer) }
  },

  // What the other side has said of itself, at the connection's start or since.
  async known ({ peer: id }) {
    const { protocols, addresses, metadata } = await peer.peerStore.get(connectionTo(id).remotePeer)
    return {
      protocols,
      addresses: addresses.map((address) => address.multiaddr.toString()),
      agent: Buffer.from(metadata.get('AgentVersion') ?? []).toString()
    }
  },

  async streams ({ peer: id }) {
    return { streams: connectionTo(id).streams.map(({ protocol, direction }) => ({ protocol, direction })) }
  },

  async subscribe ({ topic }) {
    pubsub.subscribe(topic)
    return {}
  },

  async unsubscribe ({ topic }) {
    pubsub.unsubscribe(topic)
    return {}
  },

  async neighbours ({ topic }) {
    return { subscribers: pubsub.getSubscribers(topic).map(String), mesh: pubsub.getMeshPeers(topic) }
  },

  async publish ({ topic, data }) {
    const { recipients } = await pubsub.publish(topic, Buffer.from(data, 'base64'))
    return { recipients: recipients.length }
  }
}

pubsub.addEventListener('gossipsub:message', ({ detail: { propagationSource, msgId, msg } }) => {
  const data = Buffer.from(msg.data).toString('base64')
  say({ event: 'message', topic: msg.topic, data, from: propagationSource.toString(), id: msgId })
})

say({ event: 'started', peer: peer.peerId.toString(), addresses: peer.getMultiaddrs().map(String) })

async function answer ({ id, do: name, ...parameters }) {
  try {
    say({ id, result: await commands[name](parameters) })
  } catch (error) {
    say({ id, error: `${error.name}: ${error.message}` })
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  answer(JSON.parse(line))
}
await peer.stop()
