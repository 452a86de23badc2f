// GluePlugin's seam to Elasticsearch 9.5: metadata belongs to a project.

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.elasticsearch.cluster.ClusterState;
import org.elasticsearch.cluster.metadata.DataStream;
import org.elasticsearch.cluster.metadata.MetadataCreateDataStreamService;
import org.elasticsearch.cluster.metadata.MetadataDataStreamsService;
import org.elasticsearch.cluster.metadata.ProjectMetadata;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.index.analysis.AbstractTokenFilterFactory;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.Plugin;
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
        RestHandlersServices ignored, Supplier<DiscoveryNodes> nodes, Predicate<NodeFeature> features
    ) {
        return handlers();
    }

    private ProjectMetadata project() {
        return services.projectResolver().getProjectMetadata(services.clusterService().state());
    }

    Map<String, DataStream> dataStreams() {
        return project().dataStreams();
    }

    /** Throws where no template fits. */
    void lookupTemplate(String name) {
        MetadataCreateDataStreamService.lookupTemplateForDataStream(name, project());
    }

    ClusterState withoutDataStreams(ClusterState state, Set<DataStream> gone) {
        var projectState = state.projectState(project().id());
        return MetadataDataStreamsService.deleteDataStreams(projectState, gone, services.clusterService().getSettings());
    }

    abstract static class NamedTokenFilterFactory extends AbstractTokenFilterFactory {
        NamedTokenFilterFactory(String name) {
            super(name);
        }
    }
}
