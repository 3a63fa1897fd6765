package compat;

import chinwag.compat.v1.*;
import com.google.protobuf.ByteString;
import io.grpc.*;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicReference;

/** A client of compat.proto by grpc-java: {@code Client TARGET}. Prints a line of JSON a check. */
public final class Client {
  private static final String TEXT = "what went wrong: 50 % and ünïcode\n";
  private static final long TIMEOUT_S = 20;

  private interface Check {
    void run() throws Exception;
  }

  private final CompatGrpc.CompatBlockingStub blocking;
  private final CompatGrpc.CompatStub async;

  private Client(Channel channel) {
    blocking = CompatGrpc.newBlockingStub(channel);
    async = CompatGrpc.newStub(channel);
  }

  private CompatGrpc.CompatBlockingStub stub() {
    return blocking.withDeadlineAfter(TIMEOUT_S, TimeUnit.SECONDS);
  }

  private static void equal(Object got, Object wanted) {
    if (!Objects.equals(got, wanted)) throw new AssertionError("got " + got + ", wanted " + wanted);
  }

  private static EchoRequest echo(int size) {
    return EchoRequest.newBuilder().setPayload(ByteString.copyFrom(new byte[size])).build();
  }

  /** What a stream of answers brought, when it has ended. */
  private static final class Answers<T> implements StreamObserver<T> {
    final List<T> all = Collections.synchronizedList(new ArrayList<>());
    final AtomicReference<Throwable> error = new AtomicReference<>();
    final CountDownLatch ended = new CountDownLatch(1);

    @Override public void onNext(T answer) { all.add(answer); }
    @Override public void onError(Throwable found) { error.set(found); ended.countDown(); }
    @Override public void onCompleted() { ended.countDown(); }

    List<T> await() throws Exception {
      if (!ended.await(TIMEOUT_S, TimeUnit.SECONDS)) throw new AssertionError("it did not end");
      if (error.get() != null) throw new AssertionError(error.get());
      return all;
    }
  }

  private void unary() {
    for (int size : new int[] {0, 1, 100, 16384, 65536, 1 << 20, (4 << 20) - 64})
      equal(stub().echo(echo(size)).getPayload().size(), size);
  }

  private void gzip() {
    EchoRequest request = echo(100_000).toBuilder().setCompress(true).build();
    equal(stub().withCompression("gzip").echo(request).getPayload().size(), 100_000);
  }

  private void serverStream() {
    Iterator<EchoResponse> answers =
        stub().repeat(RepeatRequest.newBuilder().setCount(300).setSize(20_000).build());
    for (int number = 0; number < 300; number++) equal(answers.next().getNumber(), number);
    equal(answers.hasNext(), false);
  }

  private void clientStream() throws Exception {
    Answers<CollectResponse> answers = new Answers<>();
    StreamObserver<EchoRequest> requests = async.collect(answers);
    for (int number = 0; number < 300; number++) requests.onNext(echo(10_000));
    requests.onCompleted();
    CollectResponse answer = answers.await().get(0);
    equal(List.of(answer.getMessages(), answer.getBytes()), List.of(300, 3_000_000L));
  }

  private void halfClose() throws Exception {
    Answers<EchoResponse> answers = new Answers<>();
    StreamObserver<EchoRequest> requests = async.chat(answers);
    for (int number = 0; number < 20; number++) requests.onNext(echo(number));
    requests.onCompleted();
    List<EchoResponse> all = answers.await();
    for (int number = 0; number < 20; number++) equal(all.get(number).getPayload().size(), number);
    equal(all.get(20).getEnd(), true);
  }

  private void metadata() {
    Metadata.Key<String> text = Metadata.Key.of("echo-initial-a", Metadata.ASCII_STRING_MARSHALLER);
    Metadata.Key<byte[]> bytes = Metadata.Key.of("echo-trailing-b-bin", Metadata.BINARY_BYTE_MARSHALLER);
    Metadata sent = new Metadata();
    sent.put(text, "x y");
    sent.put(bytes, new byte[] {0, 1, -2, -1});
    AtomicReference<Metadata> head = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    stub()
        .withInterceptors(
            MetadataUtils.newAttachHeadersInterceptor(sent),
            MetadataUtils.newCaptureMetadataInterceptor(head, trailers))
        .echo(echo(0));
    equal(head.get().get(text), "x y");
    equal(Arrays.toString(trailers.get().get(bytes)), "[0, 1, -2, -1]");
  }

  private void status() {
    for (int code = 1; code <= 16; code++) {
      try {
        stub().fail(FailRequest.newBuilder().setCode(code).setMessage(TEXT).setDetail("why").build());
        throw new AssertionError("it did not fail");
      } catch (StatusRuntimeException error) {
        equal(error.getStatus().getCode().value(), code);
        equal(error.getStatus().getDescription(), TEXT);
        Metadata.Key<byte[]> details =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
        equal(error.getTrailers().containsKey(details), true);
      }
    }
  }

  private void wasCancelled(String key) {
    FateRequest request = FateRequest.newBuilder().setKey(key).setWaitMs(5000).setCancelled(true).build();
    equal(stub().fate(request).getCancelled(), true);
  }

  private void deadline() {
    try {
      blocking
          .withDeadlineAfter(300, TimeUnit.MILLISECONDS)
          .sleep(SleepRequest.newBuilder().setKey("java-deadline").setMs(10_000).build());
      throw new AssertionError("it did not fail");
    } catch (StatusRuntimeException error) {
      equal(error.getStatus().getCode(), Status.Code.DEADLINE_EXCEEDED);
    }
    wasCancelled("java-deadline");
  }

  private void cancel() throws Exception {
    Context.CancellableContext context = Context.current().withCancellation();
    context.call(
        () ->
            stub()
                .sleepStream(SleepRequest.newBuilder().setKey("java-cancel").setMs(10_000).build())
                .next());
    context.cancel(null);
    wasCancelled("java-cancel");
  }

  private void manyAtOnce() throws Exception {
    List<Answers<EchoResponse>> all = new ArrayList<>();
    for (int number = 0; number < 200; number++) {
      Answers<EchoResponse> answers = new Answers<>();
      async.echo(echo(number).toBuilder().setDelayMs(number % 7).build(), answers);
      all.add(answers);
    }
    for (int number = 0; number < 200; number++)
      equal(all.get(number).await().get(0).getPayload().size(), number);
  }

  private static void say(String name, Check check) {
    String detail = "";
    try {
      check.run();
    } catch (Throwable error) {
      detail = error.toString().replaceAll("[^ -~]|[\"\\\\]", " ");
    }
    System.out.printf("{\"check\": \"%s\", \"ok\": %b, \"detail\": \"%s\"}%n", name, detail.isEmpty(), detail);
  }

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = NettyChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    Client client = new Client(channel);
    say("unary", client::unary);
    say("gzip", client::gzip);
    say("server_stream", client::serverStream);
    say("client_stream", client::clientStream);
    say("half_close", client::halfClose);
    say("metadata", client::metadata);
    say("status", client::status);
    say("deadline", client::deadline);
    say("cancel", client::cancel);
    say("many_at_once", client::manyAtOnce);
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }
}
