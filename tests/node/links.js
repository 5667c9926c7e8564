// SPDX-License-Identifier: MIT
//
// The other side of tests/node/links.c, with the npm package node-unix-socket: the same commands, the
// same bytes. NODE_PATH has to lead to it.
'use strict'

const net = require('net')
const { DgramSocket, SeqpacketServer, SeqpacketSocket, createReuseportFd } = require('node-unix-socket')

// Of datagrams node-unix-socket takes 65535 bytes and drops the rest.
const datagramSizes = [1, 2, 1000, 65535]
const packetSizes = [...datagramSizes, 65536, 200000]
const pattern = (size) => Buffer.from(Array.from({ length: size }, (_, i) => (size + i * 7) & 255))
const answer = (bytes) => bytes.map((byte) => (byte + 1) & 255)

function fail(why) {
  console.error(`links.js: ${why}`)
  process.exit(1)
}
const watchdog = setTimeout(() => fail('too slow'), 20000)
watchdog.unref()

// Asks with one size after the other: send(bytes) is answered by a call of what is returned.
function questions(sizes, send, done) {
  let next = 0
  const ask = () => (next < sizes.length ? send(pattern(sizes[next])) : done())
  return {
    ask,
    answered: (bytes) => {
      const size = sizes[next++]
      if (!answer(pattern(size)).equals(bytes)) fail(`not the answer to ${size} bytes, but ${bytes.length}`)
      ask()
    },
  }
}

const commands = {
  'seqpacket-server': (path) => {
    const server = new SeqpacketServer()
    server.listen(path)
    server.on('connection', (socket) => {
      socket.on('data', (bytes) => socket.write(answer(bytes)))
      socket.on('end', () => socket.end(() => process.exit(0)))
      socket.on('error', (error) => fail(error))
    })
    console.log('ready 0')
  },

  // At last an empty packet, which vouch answers by a byte, and then the end.
  'seqpacket-client': (path) => {
    const socket = new SeqpacketSocket()
    let emptied = false
    let complete = false
    const all = questions(
      packetSizes,
      (bytes) => socket.write(bytes),
      () => {
        emptied = true
        socket.write(Buffer.alloc(0), 0, 0)
      }
    )
    socket.on('data', (bytes) => {
      if (!emptied) all.answered(bytes)
      else if (bytes.toString() !== 'e') fail(`an empty packet was answered by ${bytes.length} bytes`)
      else {
        complete = true
        socket.end()
      }
    })
    socket.on('end', () => (complete ? process.exit(0) : fail('the end came before all answers')))
    socket.on('error', (error) => fail(error))
    socket.connect(path, all.ask)
  },

  'datagram-server': (path) => {
    const socket = new DgramSocket()
    socket.bind(path)
    socket.on('data', (bytes, from) => {
      if (bytes.toString() === 'end') process.exit(0)
      socket.sendTo(answer(bytes), 0, bytes.length, from, (error) => error && fail(error))
    })
    socket.on('error', (error) => fail(error))
    console.log('ready 0')
  },

  'datagram-client': (path, own) => {
    const socket = new DgramSocket()
    const send = (bytes, done) =>
      socket.sendTo(bytes, 0, bytes.length, path, (error) => (error ? fail(error) : done && done()))
    const all = questions(datagramSizes, send, () => send(Buffer.from('end'), () => process.exit(0)))
    socket.bind(own)
    socket.on('data', (bytes, from) => (from === path ? all.answered(bytes) : fail(`an answer from ${from}`)))
    socket.on('error', (error) => fail(error))
    all.ask()
  },

  'tcp-server': (port) => {
    clearTimeout(watchdog)
    const fd = createReuseportFd(Number(port), '127.0.0.1')
    const server = net.createServer((socket) => {
      socket.on('error', () => {}) // who only asked once may be gone
      socket.end('node')
    })
    server.listen({ fd }, () => console.log(`ready ${port}`))
  },
}

const [what, ...rest] = process.argv.slice(2)
if (!commands[what]) fail(`what is ${what}?`)
commands[what](...rest)
