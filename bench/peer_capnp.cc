/* SPDX-License-Identifier: MIT */
/*
 * Cap'n Proto RPC over unix:, with the EZ interface of its documentation. Its event loops belong to
 * one thread, so every caller has one, and a connection; the server has one loop.
 */
#include <capnp/ez-rpc.h>

#include <string>
#include <vector>

#include "bench/echo.capnp.h"
#include "bench/system.h"

namespace {

capnp::ReaderOptions no_limit() {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = kj::maxValue;
    return options;
}

std::string url_of(const bench_case *what) {
    return std::string("unix:") + what->address;
}

class Service final : public Echoes::Server {
    kj::Promise<void> call(CallContext context) override {
        context.getResults().setData(context.getParams().getData());
        return kj::READY_NOW;
    }
};

void serve(const bench_case *what) {
    capnp::EzRpcServer server(kj::heap<Service>(), url_of(what).c_str(), 0, no_limit());
    server.getPort().wait(server.getWaitScope()); /* it listens */
    bench_ready();
    kj::NEVER_DONE.wait(server.getWaitScope());
}

/* What one caller has: made in its own thread, at its first call. */
struct Caller {
    capnp::EzRpcClient rpc;
    Echoes::Client echoes;
    explicit Caller(const char *url) : rpc(url, 0, no_limit()), echoes(rpc.getMain<Echoes>()) {
    }
};

struct Client {
    const bench_case *what;
    std::string url;
    kj::Array<kj::byte> body;
};

thread_local kj::Own<Caller> own;

Caller &caller_of(Client *client) {
    if (own.get() == nullptr)
        own = kj::heap<Caller>(client->url.c_str());
    return *own;
}

void *open_client(const bench_case *what) {
    auto *client = new Client{what, url_of(what), kj::heapArray<kj::byte>(what->size)};
    for (size_t i = 0; i < what->size; i++)
        client->body[i] = static_cast<kj::byte>('a' + i % 26);
    return client;
}

void close_client(void *context) {
    own = nullptr;
    delete static_cast<Client *>(context);
}

auto begin(Client *client, Caller &caller) {
    auto request = caller.echoes.callRequest();
    request.setData(client->body);
    return request.send();
}

void check(const Client *client, capnp::Data::Reader data) {
    if (data.size() != client->what->size)
        bench_die("%zu bytes came back as %zu", client->what->size, data.size());
}

void call(void *context, unsigned) {
    auto *client = static_cast<Client *>(context);
    Caller &caller = caller_of(client);
    auto reply = begin(client, caller).wait(caller.rpc.getWaitScope());
    check(client, reply.getData());
}

/* One of the calls in flight: when it ends, the next. */
kj::Promise<void> keep_calling(Client *client, Caller &caller, bench_flight *flight) {
    if (!bench_flight_more(flight))
        return kj::READY_NOW;
    int64_t begun = bench_flight_begin(flight);
    return begin(client, caller).then([=, &caller](auto reply) {
        check(client, reply.getData());
        bench_flight_end(flight, begun);
        return keep_calling(client, caller, flight);
    });
}

void fly(void *context, bench_flight *flight) {
    auto *client = static_cast<Client *>(context);
    Caller &caller = caller_of(client);
    auto promises = kj::heapArrayBuilder<kj::Promise<void>>(client->what->in_flight);
    for (unsigned i = 0; i < client->what->in_flight; i++)
        promises.add(keep_calling(client, caller, flight));
    kj::joinPromises(promises.finish()).wait(caller.rpc.getWaitScope());
}

} // namespace

int main(int argc, char **argv) {
    bench_system system = {};
    system.name = "capnproto";
    system.serve = serve;
    system.open = open_client;
    system.close = close_client;
    system.call = call;
    system.fly = fly;
    const bench_system *const systems[] = {&system, nullptr};
    return bench_peer(argc, argv, systems);
}
