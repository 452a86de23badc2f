// The REST endpoints whose modules (rest-root, data-streams, x-pack-ilm) are not published with the server that the
// tests run. Everything below the REST layer is Elasticsearch's own code. What differs between Elasticsearch 8.19 and 9.5
// stands in VersionedPlugin, of which there are two. Test code only.

import java.io.IOException;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.email.UAX29URLEmailTokenizer;
import org.apache.lucene.analysis.miscellaneous.RemoveDuplicatesTokenFilter;
import org.apache.lucene.analysis.pattern.PatternCaptureGroupTokenFilter;
import org.elasticsearch.Build;
import org.elasticsearch.ResourceAlreadyExistsException;
import org.elasticsearch.ResourceNotFoundException;
import org.elasticsearch.action.ActionListener;
import org.elasticsearch.action.admin.indices.create.AutoCreateAction;
import org.elasticsearch.action.admin.indices.create.CreateIndexRequest;
import org.elasticsearch.action.admin.indices.create.CreateIndexResponse;
import org.elasticsearch.action.support.master.AcknowledgedResponse;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.ClusterState;
import org.elasticsearch.cluster.ClusterStateUpdateTask;
import org.elasticsearch.cluster.metadata.DataStream;
import org.elasticsearch.cluster.service.ClusterService;
import org.elasticsearch.common.regex.Regex;
import org.elasticsearch.common.settings.Setting;
import org.elasticsearch.core.CheckedConsumer;
import org.elasticsearch.index.IndexVersion;
import org.elasticsearch.index.analysis.TokenFilterFactory;
import org.elasticsearch.index.analysis.TokenizerFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.plugins.AnalysisPlugin;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestChannel;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.rest.action.RestToXContentListener;
import org.elasticsearch.xcontent.ContextParser;
import org.elasticsearch.xcontent.NamedXContentRegistry;
import org.elasticsearch.xcontent.ParseField;
import org.elasticsearch.xcontent.ToXContent;
import org.elasticsearch.xcontent.XContentBuilder;
import org.elasticsearch.xcontent.XContentParser;
import org.elasticsearch.xpack.core.ilm.AllocateAction;
import org.elasticsearch.xpack.core.ilm.DeleteAction;
import org.elasticsearch.xpack.core.ilm.ForceMergeAction;
import org.elasticsearch.xpack.core.ilm.LifecycleAction;
import org.elasticsearch.xpack.core.ilm.LifecyclePolicy;
import org.elasticsearch.xpack.core.ilm.LifecycleSettings;
import org.elasticsearch.xpack.core.ilm.LifecycleType;
import org.elasticsearch.xpack.core.ilm.MigrateAction;
import org.elasticsearch.xpack.core.ilm.ReadOnlyAction;
import org.elasticsearch.xpack.core.ilm.RolloverAction;
import org.elasticsearch.xpack.core.ilm.SetPriorityAction;
import org.elasticsearch.xpack.core.ilm.ShrinkAction;
import org.elasticsearch.xpack.core.ilm.TimeseriesLifecycleType;

public class GluePlugin extends VersionedPlugin implements AnalysisPlugin {
    private ClusterService cluster;
    /** Parsed and validated by Elasticsearch's own code, never carried out. */
    private final Map<String, LifecyclePolicy> policies = new ConcurrentHashMap<>();

    @Override
    public Collection<?> createComponents(PluginServices given) {
        cluster = given.clusterService();
        return super.createComponents(given);
    }

    @Override
    List<RestHandler> handlers() {
        return List.of(
            handler("root", (request, client) -> answer(this::writeRoot), "GET /", "HEAD /"),
            handler("data_stream_get", this::getDataStreams, "GET /_data_stream", "GET /_data_stream/{name}"),
            handler("data_stream_put", this::putDataStream, "PUT /_data_stream/{name}"),
            handler("data_stream_delete", this::deleteDataStreams, "DELETE /_data_stream/{name}"),
            handler("ilm_put", this::putPolicy, "PUT /_ilm/policy/{name}"),
            handler("ilm_get", this::getPolicies, "GET /_ilm/policy", "GET /_ilm/policy/{name}")
        );
    }

    // ---- GET / ----

    private void writeRoot(XContentBuilder json) throws IOException {
        Build build = Build.current();
        json.field("name", cluster.getNodeName());
        json.field("cluster_name", cluster.getClusterName().value());
        json.field("cluster_uuid", cluster.state().metadata().clusterUUID());
        json.startObject("version");
        json.field("number", build.qualifiedVersion());
        json.field("build_flavor", build.flavor());
        json.field("build_type", build.type().displayName());
        json.field("build_hash", build.hash());
        json.field("build_date", build.date());
        json.field("build_snapshot", build.isSnapshot());
        json.field("lucene_version", IndexVersion.current().luceneVersion().toString());
        json.field("minimum_wire_compatibility_version", build.minWireCompatVersion());
        json.field("minimum_index_compatibility_version", build.minIndexCompatVersion());
        json.endObject().field("tagline", "You Know, for Search");
    }

    // ---- /_data_stream ----

    private Set<DataStream> wantedDataStreams(RestRequest request) {
        String wanted = request.param("name", "*");
        Set<DataStream> found = new TreeSet<>(Comparator.comparing(DataStream::getName));
        for (DataStream stream : dataStreams().values()) {
            if (Regex.simpleMatch(wanted.split(","), stream.getName())) {
                found.add(stream);
            }
        }
        if (found.isEmpty() && wanted.contains("*") == false) {
            throw new ResourceNotFoundException("no such index [" + wanted + "]");
        }
        return found;
    }

    private Answer getDataStreams(RestRequest request, NodeClient client) {
        Set<DataStream> found = wantedDataStreams(request);
        return answer(json -> {
            json.startArray("data_streams");
            for (DataStream stream : found) {
                stream.toXContent(json, ToXContent.EMPTY_PARAMS);
            }
            json.endArray();
        });
    }

    private Answer putDataStream(RestRequest request, NodeClient client) {
        String name = request.param("name");
        if (dataStreams().containsKey(name)) {
            throw new ResourceAlreadyExistsException("data_stream [" + name + "] already exists");
        }
        lookupTemplate(name);
        return channel -> client.execute(
            AutoCreateAction.INSTANCE,
            new CreateIndexRequest(name),
            new RestToXContentListener<CreateIndexResponse>(channel)
        );
    }

    private Answer deleteDataStreams(RestRequest request, NodeClient client) {
        Set<DataStream> found = wantedDataStreams(request);
        return channel -> {
            ActionListener<AcknowledgedResponse> listener = new RestToXContentListener<>(channel);
            cluster.submitUnbatchedStateUpdateTask("glue-delete-data-stream", new ClusterStateUpdateTask() {
                @Override
                public ClusterState execute(ClusterState state) {
                    return withoutDataStreams(state, found);
                }

                @Override
                public void onFailure(Exception error) {
                    listener.onFailure(error);
                }

                @Override
                public void clusterStateProcessed(ClusterState before, ClusterState after) {
                    listener.onResponse(AcknowledgedResponse.TRUE);
                }
            });
        };
    }

    // ---- /_ilm/policy ----

    private Answer putPolicy(RestRequest request, NodeClient client) throws IOException {
        try (XContentParser parser = request.contentParser()) {
            parser.nextToken(); // {
            parser.nextToken(); // "policy":
            parser.nextToken(); // {
            LifecyclePolicy policy = LifecyclePolicy.parse(parser, request.param("name"));
            policy.validate();
            policies.put(policy.getName(), policy);
        }
        return answer(json -> json.field("acknowledged", true));
    }

    private Answer getPolicies(RestRequest request, NodeClient client) {
        String wanted = request.param("name");
        if (wanted != null && policies.containsKey(wanted) == false) {
            throw new ResourceNotFoundException("Lifecycle policy not found: " + wanted);
        }
        return answer(json -> {
            for (var entry : policies.entrySet()) {
                if (wanted == null || wanted.equals(entry.getKey())) {
                    json.startObject(entry.getKey()).field("version", 1).field("policy", entry.getValue()).endObject();
                }
            }
        });
    }

    /** The settings that the ILM module would register, so that an index template may name its policy. */
    @Override
    public List<Setting<?>> getSettings() {
        return List.of(
            LifecycleSettings.LIFECYCLE_NAME_SETTING,
            LifecycleSettings.LIFECYCLE_INDEXING_COMPLETE_SETTING,
            RolloverAction.LIFECYCLE_ROLLOVER_ALIAS_SETTING
        );
    }

    @Override
    public List<NamedXContentRegistry.Entry> getNamedXContent() {
        ParseField type = new ParseField(TimeseriesLifecycleType.TYPE);
        return List.of(
            new NamedXContentRegistry.Entry(LifecycleType.class, type, (p, c) -> TimeseriesLifecycleType.INSTANCE),
            action("allocate", (p, c) -> AllocateAction.parse(p)),
            action("delete", (p, c) -> DeleteAction.parse(p)),
            action("forcemerge", (p, c) -> ForceMergeAction.parse(p)),
            action("migrate", (p, c) -> MigrateAction.parse(p)),
            action("readonly", (p, c) -> ReadOnlyAction.parse(p)),
            action("rollover", (p, c) -> RolloverAction.parse(p)),
            action("set_priority", (p, c) -> SetPriorityAction.parse(p)),
            action("shrink", (p, c) -> ShrinkAction.parse(p))
        );
    }

    private static NamedXContentRegistry.Entry action(
        String name, ContextParser<Object, ? extends LifecycleAction> parser
    ) {
        return new NamedXContentRegistry.Entry(LifecycleAction.class, new ParseField(name), parser);
    }

    // ---- what the analyzer of the .security index needs of the absent module analysis-common: API keys live there ----

    @Override
    public Map<String, AnalysisProvider<TokenFilterFactory>> getTokenFilters() {
        return Map.of(
            "pattern_capture",
            AnalysisPlugin.requiresAnalysisSettings((index, environment, name, settings) -> {
                boolean keep = settings.getAsBoolean("preserve_original", true);
                Pattern[] patterns = settings.getAsList("patterns").stream().map(Pattern::compile).toArray(Pattern[]::new);
                return filter(name, stream -> new PatternCaptureGroupTokenFilter(stream, keep, patterns));
            }),
            "unique",
            (index, environment, name, settings) -> filter(name, RemoveDuplicatesTokenFilter::new)
        );
    }

    @Override
    public Map<String, AnalysisProvider<TokenizerFactory>> getTokenizers() {
        return Map.of(
            "uax_url_email",
            (index, environment, name, settings) -> TokenizerFactory.newFactory(name, UAX29URLEmailTokenizer::new)
        );
    }

    private static TokenFilterFactory filter(String name, UnaryOperator<TokenStream> wrap) {
        return new NamedTokenFilterFactory(name) {
            @Override
            public TokenStream create(TokenStream stream) {
                return wrap.apply(stream);
            }
        };
    }

    // ---- a handler in one line ----

    private interface Answer extends CheckedConsumer<RestChannel, Exception> {}

    private interface Endpoint {
        Answer prepare(RestRequest request, NodeClient client) throws IOException;
    }

    private interface Body {
        void write(XContentBuilder json) throws IOException;
    }

    private static Answer answer(Body body) {
        return channel -> {
            XContentBuilder json = channel.newBuilder().startObject();
            body.write(json);
            channel.sendResponse(new RestResponse(RestStatus.OK, json.endObject()));
        };
    }

    private static RestHandler handler(String name, Endpoint endpoint, String... routes) {
        return new BaseRestHandler() {
            @Override
            public String getName() {
                return "glue_" + name;
            }

            @Override
            public List<Route> routes() {
                return Arrays.stream(routes).map(route -> route.split(" "))
                    .map(parts -> new Route(RestRequest.Method.valueOf(parts[0]), parts[1]))
                    .toList();
            }

            @Override
            protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) throws IOException {
                return endpoint.prepare(request, client)::accept;
            }
        };
    }
}
