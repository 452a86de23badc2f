// GluePlugin's seam to Elasticsearch 8.19: metadata belongs to the cluster.

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.elasticsearch.cluster.ClusterState;
import org.elasticsearch.cluster.metadata.DataStream;
import org.elasticsearch.cluster.metadata.IndexNameExpressionResolver;
import org.elasticsearch.cluster.metadata.Metadata;
import org.elasticsearch.cluster.metadata.MetadataCreateDataStreamService;
import org.elasticsearch.cluster.metadata.MetadataDataStreamsService;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.common.io.stream.NamedWriteableRegistry;
import org.elasticsearch.common.settings.ClusterSettings;
import org.elasticsearch.common.settings.IndexScopedSettings;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.common.settings.SettingsFilter;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.index.analysis.AbstractTokenFilterFactory;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestHandler;

abstract class VersionedPlugin extends Plugin implements ActionPlugin {
    private PluginServices services;

    abstract List<RestHandler> handlers();

    @Override
    public Collection<?> createComponents(PluginServices given) {
        services = given;
        return List.of();
    }

    @Override
    public Collection<RestHandler> getRestHandlers(
        Settings settings, NamedWriteableRegistry registry, RestController controller, ClusterSettings clusterSettings,
        IndexScopedSettings indexSettings, SettingsFilter filter, IndexNameExpressionResolver resolver,
        Supplier<DiscoveryNodes> nodes, Predicate<NodeFeature> features
    ) {
        return handlers();
    }

    private Metadata metadata() {
        return services.clusterService().state().metadata();
    }

    Map<String, DataStream> dataStreams() {
        return metadata().dataStreams();
    }

    /** Throws where no template fits. */
    void lookupTemplate(String name) {
        MetadataCreateDataStreamService.lookupTemplateForDataStream(name, metadata());
    }

    ClusterState withoutDataStreams(ClusterState state, Set<DataStream> gone) {
        return MetadataDataStreamsService.deleteDataStreams(state, gone, services.clusterService().getSettings());
    }

    abstract static class NamedTokenFilterFactory extends AbstractTokenFilterFactory {
        NamedTokenFilterFactory(String name) {
            super(name, Settings.EMPTY);
        }
    }
}
