// SPDX-License-Identifier: MIT
//
// Talks to examples/pixl_server as a client of pixl-ipc does, with its stream layer: pixl_client.js SOCKET.
// A line for each thing looked at, the exit code 1 if one is not right.
'use strict';
const net = require('net');
const assert = require('assert');
const JSONStream = require('pixl-json-stream');
const [socket] = process.argv.slice(2);

class Client {
    constructor() {
        this.waiting = new Map();
        this.messages = [];
        this.listeners = [];
        this.next = 0;
        this.connection = net.connect(socket);
        this.stream = new JSONStream(this.connection);
        this.stream.maxLineLength = 64 * 1024 * 1024;
        this.stream.on('text', (text) => { throw new Error('text came: ' + text); });
        this.stream.on('error', (error) => { throw error; });
        this.stream.on('json', (line) => this.take(line));
        this.ended = new Promise((resolve) => this.connection.on('close', resolve));
    }
    take(line) {
        const waiting = line.ipcReqID && this.waiting.get(JSON.stringify(line.ipcReqID));
        if (waiting) {
            this.waiting.delete(JSON.stringify(line.ipcReqID));
            waiting(line);
        } else {
            this.messages.push(line);
            for (const listener of this.listeners.splice(0)) listener();
        }
    }
    async message() {
        while (this.messages.length === 0) await new Promise((resolve) => this.listeners.push(resolve));
        return this.messages.shift();
    }
    reply(id) {
        return new Promise((resolve) => this.waiting.set(JSON.stringify(id), resolve));
    }
    call(uri, data, more = {}) {
        const id = 'rq' + this.next++;
        const reply = this.reply(id);
        this.stream.write({ ipcReqID: id, uri, data, pid: process.pid, userAgent: 'Node/IPCClient', ...more });
        return reply;
    }
}

const tests = {
    async 'calls'(c) {
        const { data } = await c.call('/math/sum', { ints: [1, 2, 3] });
        assert.deepStrictEqual(data, { sum: 6 });
    },
    async 'patterns'(c) {
        assert.deepStrictEqual((await c.call('/hello/joe', {})).data, { hello: 'joe' });
        assert.deepStrictEqual((await c.call('/hello/', {})).data,
            { code: 'no_handler_found', message: 'No handler found for /hello/' });
    },
    async 'errors of handlers'(c) {
        const { data } = await c.call('/math/sum', { ints: ['x'] });
        assert.deepStrictEqual(data, { code: 'bad_data', message: 'ints are integers' });
    },
    async 'no uri'(c) {
        const reply = await c.call(undefined, {});
        assert.strictEqual(reply.code, 'no_uri');
        assert.strictEqual(typeof reply.message, 'string');
        assert.ok(!('data' in reply));
    },
    async 'ids of all kinds, in any place'(c) {
        for (const id of ['a\u2028"\\', 7, 1.5, { b: [1] }, [null], true]) {
            const reply = c.reply(id);
            c.stream.write({ data: 'x', uri: '/ipcserver/test/echo', ipcReqID: id });
            assert.strictEqual((await reply).data, 'x');
        }
        c.stream.write({ uri: '/ipcserver/test/echo/without' });
        assert.deepStrictEqual(await c.message(), { ipcReqID: null, data: null });
    },
    async 'a line and its end in two writes, as the PHP client does'(c) {
        const reply = c.reply('php');
        c.connection.write(JSON.stringify({ uri: '/ipcserver/test/echo', ipcReqID: 'php', data: [] }));
        await new Promise((resolve) => setImmediate(resolve));
        c.connection.write('\n');
        assert.deepStrictEqual((await reply).data, []);
    },
    async 'blank lines and other text'(c) {
        c.connection.write('\n\r\n  \nhello\n[1]\n{"uri":\n');
        assert.strictEqual((await c.call('/ipcserver/test/echo', 1)).data, 1);
    },
    async 'a megabyte'(c) {
        const data = { text: '\u00e9"'.repeat(500000) };
        assert.deepStrictEqual((await c.call('/ipcserver/test/echo', data)).data, data);
    },
    async 'many at once, answered in any order'(c) {
        const delays = Array.from({ length: 20 }, (_, i) => 20 - i);
        const replies = await Promise.all(delays.map((delay) => c.call('/ipcserver/test/delay', { delay })));
        assert.deepStrictEqual(replies.map((reply) => reply.data.delay), delays);
    },
    async 'what nobody asked for'(c) {
        const other = new Client();
        await other.call('/ipcserver/test/echo', 0);
        const { data } = await c.call('/say', 'news');
        assert.ok(data.told >= 2);
        assert.deepStrictEqual(await c.message(), { said: 'news' });
        assert.deepStrictEqual(await other.message(), { said: 'news' });
        other.connection.end();
    },
    async 'json that node takes and we do not'(c) {
        const { data } = await c.call('/ipcserver/test/echo', '\ud800');
        assert.strictEqual(data.code, 'bad_data');
    },
};

(async () => {
    const client = new Client();
    const overdue = setTimeout(() => { console.log('not ok - node: nothing comes'); process.exit(1); }, 60000);
    let failed = 0;
    for (const [name, test] of Object.entries(tests)) {
        try {
            await test(client);
            assert.deepStrictEqual(client.messages, []);
            console.log('ok - node: ' + name);
        } catch (error) {
            failed = 1;
            console.log('not ok - node: ' + name + '\n    ' + error.message.replace(/\n/g, '\n    '));
        }
    }
    clearTimeout(overdue);
    client.connection.end();
    await client.ended;
    process.exit(failed);
})();
