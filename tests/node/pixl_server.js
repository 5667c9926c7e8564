// SPDX-License-Identifier: MIT
//
// A server that answers as one of pixl-ipc does, made of its stream layer: pixl_server.js SOCKET. Writes
// "serving SOCKET" when it does; a line on standard error for what it did not expect.
'use strict';
const net = require('net');
const JSONStream = require('pixl-json-stream');
const [socket] = process.argv.slice(2);

function answer(stream, request) {
    const reply = (data) => stream.write({ ipcReqID: request.ipcReqID || null, data });
    if (!request.uri)
        return stream.write({ ipcReqID: request.ipcReqID || null, code: 'no_uri', message: 'No URI in request' });
    if (request.uri.match(/^\/ipcserver\/test\/echo/))
        return reply(request.data);
    switch (request.uri) {
    case '/who':
        return reply({ pid: request.pid, userAgent: request.userAgent, keys: Object.keys(request) });
    case '/refuse':
        return reply({ code: 'mine', message: 'not \u00fcber "here"' });
    case '/top':
        return stream.write({ ipcReqID: request.ipcReqID, code: 404, message: 'at the top' });
    case '/zero':
        return reply({ code: 0, fine: true });
    case '/say':
        stream.write({ news: [1, 2, 3] });
        return reply('said');
    case '/noise': // what has to be skipped
        stream.streamOut.write('\n\r\nhello\n{"ipcReqID":"rq998","data":\n{"ipcReqID":"rq999","data":1}\n');
        return reply('noisy');
    case '/pieces': {
        const line = JSON.stringify({ data: 'in pieces', ipcReqID: request.ipcReqID });
        for (const c of line) stream.streamOut.write(c);
        return stream.streamOut.write('\n');
    }
    default:
        return reply({ code: 'no_handler_found', message: 'No handler found for ' + request.uri });
    }
}

net.createServer((connection) => {
    const stream = new JSONStream(connection);
    stream.maxLineLength = 64 * 1024 * 1024;
    stream.on('json', (request) => answer(stream, request));
    stream.on('text', (text) => console.error('text: ' + text));
    stream.on('error', (error) => console.error('error: ' + error));
}).listen(socket, () => console.log('serving ' + socket));
process.on('SIGTERM', () => process.exit(0));
