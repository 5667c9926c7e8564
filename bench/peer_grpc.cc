/* SPDX-License-Identifier: MIT */
/*
 * gRPC C++ over unix:, as its documentation does it: a synchronous server; a stub that threads
 * share; for calls in flight the asynchronous stub with a completion queue. Insecure credentials,
 * so no encryption.
 */
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/echo_grpc.grpc.pb.h"
#include "bench/system.h"

namespace {

using bench_grpc::Echo;
using bench_grpc::Echoes;

std::string url_of(const bench_case *what) {
    return std::string("unix:") + what->address;
}

class Service final : public Echoes::Service {
    grpc::Status Call(grpc::ServerContext *, const Echo *request, Echo *reply) override {
        reply->set_data(request->data());
        return grpc::Status::OK;
    }
};

void serve(const bench_case *what) {
    Service service;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(url_of(what), grpc::InsecureServerCredentials());
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(&service);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (!server)
        bench_die("gRPC: no server");
    bench_ready();
    server->Wait();
}

struct Client {
    const bench_case *what;
    std::vector<std::unique_ptr<Echoes::Stub>> stubs;
    Echo request;
};

void *open_client(const bench_case *what) {
    auto *client = new Client;
    client->what = what;
    char *body = bench_body(what->size);
    client->request.set_data(body, what->size);
    free(body);
    for (unsigned i = 0; i < what->connections; i++) {
        grpc::ChannelArguments arguments;
        arguments.SetMaxReceiveMessageSize(-1);
        if (what->connections > 1 || what->kind == BENCH_SETUP) /* else channels share one */
            arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        client->stubs.push_back(Echoes::NewStub(grpc::CreateCustomChannel(
            url_of(what), grpc::InsecureChannelCredentials(), arguments)));
    }
    return client;
}

void close_client(void *context) {
    delete static_cast<Client *>(context);
}

void check(const Client *client, const grpc::Status &status, const Echo &reply) {
    if (!status.ok())
        bench_die("gRPC: %s", status.error_message().c_str());
    if (reply.data().size() != client->what->size)
        bench_die("%zu bytes came back as %zu", client->what->size, reply.data().size());
}

void call(void *context, unsigned caller) {
    auto *client = static_cast<Client *>(context);
    grpc::ClientContext call_context;
    Echo reply;
    check(
        client,
        client->stubs[caller % client->stubs.size()]->Call(&call_context, client->request, &reply),
        reply);
}

struct Flying {
    grpc::ClientContext context;
    grpc::Status status;
    Echo reply;
    int64_t begun;
    std::unique_ptr<grpc::ClientAsyncResponseReader<Echo>> reader;
};

void fly(void *context, bench_flight *flight) {
    auto *client = static_cast<Client *>(context);
    grpc::CompletionQueue queue;
    while (bench_flight_more(flight) || bench_flight_busy(flight)) {
        while (bench_flight_more(flight)) {
            auto *flying = new Flying;
            flying->begun = bench_flight_begin(flight);
            flying->reader = client->stubs[0]->AsyncCall(&flying->context, client->request, &queue);
            flying->reader->Finish(&flying->reply, &flying->status, flying);
        }
        void *tag;
        bool ok;
        if (!queue.Next(&tag, &ok) || !ok)
            bench_die("gRPC: the queue ended");
        std::unique_ptr<Flying> flying(static_cast<Flying *>(tag));
        check(client, flying->status, flying->reply);
        bench_flight_end(flight, flying->begun);
    }
}

} // namespace

int main(int argc, char **argv) {
    bench_system system = {};
    system.name = "grpc-cpp";
    system.serve = serve;
    system.open = open_client;
    system.close = close_client;
    system.call = call;
    system.fly = fly;
    const bench_system *const systems[] = {&system, nullptr};
    return bench_peer(argc, argv, systems);
}
