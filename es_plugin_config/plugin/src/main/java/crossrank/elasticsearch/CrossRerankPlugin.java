package crossrank.elasticsearch;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.settings.ClusterSettings;
import org.elasticsearch.common.settings.SecureString;
import org.elasticsearch.common.settings.Setting;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.plugins.ReloadablePlugin;
import org.elasticsearch.plugins.SearchPlugin;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.search.rank.RankDoc;
import org.elasticsearch.search.retriever.RetrieverParserContext;
import org.elasticsearch.threadpool.ThreadPool;
import org.elasticsearch.xcontent.ConstructingObjectParser;

/** Registers the retriever and keeps its connection to the server as the node's settings say. */
public final class CrossRerankPlugin extends RestPlugin
    implements SearchPlugin, ReloadablePlugin {
  private static final Logger logger = LogManager.getLogger(CrossRerankPlugin.class);
  private static final List<Setting<?>> OF_CONNECTION =
      List.of(
          PluginSettings.ADDRESS,
          PluginSettings.TLS_ENABLED,
          PluginSettings.TLS_CERTIFICATE_AUTHORITIES);

  private final RerankClient client;
  private final PluginToken token = new PluginToken();
  private volatile PageReranker reranker;
  private volatile ConstructingObjectParser<CrossRerankRetrieverBuilder, RetrieverParserContext>
      parser;
  private volatile Path configuration;
  private volatile Settings connectionSettings;

  /** Made by Elasticsearch, once per node. */
  public CrossRerankPlugin(Settings settings) {
    CircuitBreaker breaker =
        new CircuitBreaker(
            PluginSettings.BREAKER_FAILURES.get(settings),
            PluginSettings.BREAKER_PAUSE.get(settings).nanos());
    client = new RerankClient(breaker, PluginSettings.MAX_IN_FLIGHT.get(settings));
    connectionSettings = settings;
    token.take(settings);
  }

  @Override
  public Collection<?> createComponents(PluginServices services) {
    ThreadPool threadPool = services.threadPool();
    configuration = services.environment().configDir();
    reranker =
        new PageReranker(
            client,
            threadPool.executor(ThreadPool.Names.SEARCH_COORDINATION),
            threadPool.getThreadContext(),
            PluginSettings.DEADLINE.get(services.environment().settings()));
    parser = CrossRerankRetrieverBuilder.parser(reranker);
    connect(connectionSettings);
    listen(services.clusterService().getClusterSettings());
    return List.of();
  }

  private void listen(ClusterSettings settings) {
    settings.addSettingsUpdateConsumer(PluginSettings.DEADLINE, reranker::setDeadline);
    settings.addSettingsUpdateConsumer(PluginSettings.MAX_IN_FLIGHT, client::limitInFlight);
    settings.addSettingsUpdateConsumer(
        PluginSettings.BREAKER_FAILURES,
        PluginSettings.BREAKER_PAUSE,
        (failures, pause) -> client.breaker().configure(failures, pause.nanos()));
    settings.addSettingsUpdateConsumer(this::connect, OF_CONNECTION, this::check);
  }

  /** Refuses settings of a connection that cannot be made, before any node takes them. */
  private void check(Settings settings) {
    try {
      client.check(server(settings));
    } catch (IOException | RuntimeException refused) {
      throw PageParameters.refused(
          PluginSettings.TLS_CERTIFICATE_AUTHORITIES.getKey(),
          refused.getMessage(),
          "a PEM file of certificates in the configuration folder");
    }
  }

  private synchronized void connect(Settings settings) {
    try {
      client.connectTo(server(settings));
      connectionSettings = settings;
    } catch (IOException | RuntimeException failed) {
      logger.error("the connection stays as it was; its new settings cannot be used", failed);
    }
  }

  private RerankClient.ServerAddress server(Settings settings) {
    String address = PluginSettings.ADDRESS.get(settings);
    if (address.isEmpty()) {
      return null;
    }
    String authorities = PluginSettings.TLS_CERTIFICATE_AUTHORITIES.get(settings);
    return new RerankClient.ServerAddress(
        address,
        PluginSettings.TLS_ENABLED.get(settings),
        authorities.isEmpty() ? null : configuration.resolve(authorities),
        token.value());
  }

  @Override
  public void reload(Settings settings) {
    token.take(settings);
    connect(connectionSettings);
  }

  @Override
  public List<RetrieverSpec<?>> getRetrievers() {
    return List.of(
        new RetrieverSpec<>(
            CrossRerankRetrieverBuilder.NAME,
            (text, context) -> parser.apply(text, context)));
  }

  @Override
  public List<NamedWriteableRegistry.Entry> getNamedWriteables() {
    return List.of(
        new NamedWriteableRegistry.Entry(RankDoc.class, RankedDoc.NAME, RankedDoc::new));
  }

  @Override
  public List<Setting<?>> getSettings() {
    return PluginSettings.ALL;
  }

  @Override
  RestHandler restHandler() {
    return new StatsHandler(client, () -> reranker.counters());
  }

  @Override
  public void close() {
    client.close();
  }

  /** The token, as the keystore had it when it was last read. */
  private static final class PluginToken {
    private volatile String value;

    void take(Settings settings) {
      try (SecureString stored = PluginSettings.TOKEN.get(settings)) {
        value = stored == null || stored.length() == 0 ? null : stored.toString();
      }
    }

    String value() {
      return value;
    }
  }
}
