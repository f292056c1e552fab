package crossrank.elasticsearch;

import java.util.List;
import java.util.function.Function;
import org.elasticsearch.common.settings.SecureSetting;
import org.elasticsearch.common.settings.SecureString;
import org.elasticsearch.common.settings.Setting;
import org.elasticsearch.common.settings.Setting.Property;
import org.elasticsearch.core.TimeValue;

/** The settings of a node, all under {@code crossrank.}; README.md lists them with their limits. */
final class PluginSettings {
  /** Where the server answers, {@code host:port}; empty means that no page is sent. */
  static final Setting<String> ADDRESS =
      new Setting<>(
          "crossrank.address",
          "",
          Function.identity(),
          PluginSettings::checkAddress,
          Property.NodeScope,
          Property.Dynamic);

  /** How long a search waits for the server, connecting included. */
  static final Setting<TimeValue> DEADLINE =
      Setting.timeSetting(
          "crossrank.deadline",
          TimeValue.timeValueMillis(200),
          TimeValue.timeValueMillis(1),
          TimeValue.timeValueSeconds(10),
          Property.NodeScope,
          Property.Dynamic);

  /** Calls that this node has in flight at most; a search beyond it is not reranked. */
  static final Setting<Integer> MAX_IN_FLIGHT =
      Setting.intSetting(
          "crossrank.max_in_flight", 64, 1, 10_000, Property.NodeScope, Property.Dynamic);

  /** Failures in a row after which calls stop. */
  static final Setting<Integer> BREAKER_FAILURES =
      Setting.intSetting(
          "crossrank.breaker.failures", 5, 1, 1_000, Property.NodeScope, Property.Dynamic);

  /** How long calls stop before one is tried again. */
  static final Setting<TimeValue> BREAKER_PAUSE =
      Setting.timeSetting(
          "crossrank.breaker.pause",
          TimeValue.timeValueSeconds(5),
          TimeValue.timeValueMillis(10),
          TimeValue.timeValueMinutes(10),
          Property.NodeScope,
          Property.Dynamic);

  /** Whether the connection is encrypted. */
  static final Setting<Boolean> TLS_ENABLED =
      Setting.boolSetting("crossrank.tls.enabled", false, Property.NodeScope, Property.Dynamic);

  /** PEM file of who signs the server's certificate, within the configuration folder. */
  static final Setting<String> TLS_CERTIFICATE_AUTHORITIES =
      Setting.simpleString(
          "crossrank.tls.certificate_authorities", "", Property.NodeScope, Property.Dynamic);

  /** The server's bearer token, kept in the keystore. */
  static final Setting<SecureString> TOKEN = SecureSetting.secureString("crossrank.token", null);

  static final List<Setting<?>> ALL =
      List.of(
          ADDRESS,
          DEADLINE,
          MAX_IN_FLIGHT,
          BREAKER_FAILURES,
          BREAKER_PAUSE,
          TLS_ENABLED,
          TLS_CERTIFICATE_AUTHORITIES,
          TOKEN);

  private PluginSettings() {}

  private static void checkAddress(String address) {
    if (address.isEmpty()) {
      return;
    }
    int colon = address.lastIndexOf(':');
    int port = -1;
    try {
      port = Integer.parseInt(address.substring(colon + 1));
    } catch (NumberFormatException refused) {
      // Reported below with everything else that is not a port.
    }
    if (colon <= 0 || port < 1 || port > 65_535 || address.contains("/")) {
      throw new IllegalArgumentException(
          "crossrank.address: got \"" + address + "\", want host:port, or nothing to stop calls");
    }
  }
}
