"""The ``mirv cohort`` commands on lesions; those on patients join them from their own module."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirv.analysis.choices import CohortScaling, Correlation, Population, ReductionMode
from mirv.config.errors import BadInput
from mirv.service.commands.cohort.options import (
    OUT,
    CohortOption,
    FeaturesOption,
    FormatOption,
    IdentifiedOption,
    IncompleteOption,
    IndexDateOption,
    LesionOption,
    OutOption,
    PatientOption,
    ProfileOption,
    ShortListOption,
    SiteOption,
    Source,
    StudyOption,
    TimePointOption,
    chosen,
    names_in,
    open_lesions,
    running,
    short_list,
)
from mirv.service.commands.cohort.patients import patients_app
from mirv.service.commands.terminal import AnalysisCommands, ConfigOption

if TYPE_CHECKING:
    from mirv.analysis.spaces.space import FeatureSpace
    from mirv.service.research.cohort.source import Cohort

FITTED = "the space is fitted on the lesions of all patients"

app = typer.Typer(
    cls=AnalysisCommands,
    no_args_is_help=True,
    help="The papers' analyses on tables of a cohort, or on the node's own results.",
)


@app.command("variation")
def variation(
    features: FeaturesOption,
    patient_column: PatientOption = "",
    study_column: StudyOption = "",
    lesion_column: LesionOption = "",
    site_column: SiteOption = "",
    profile: ProfileOption = "",
    short_list_of: ShortListOption = "henry2022",
    group_column: Annotated[
        str, typer.Option(help="Column with two groups of patients to compare (oligo, multi).")
    ] = "",
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
    config: ConfigOption = None,
    identified: IdentifiedOption = False,
) -> None:
    """Coefficient of variation of each feature by patient, class and site, with tests."""
    with running("variation", folder, table_format, group_column=group_column) as sink:
        from mirv.service.research.cohort.features import write_variation

        choice = chosen(sink, time_point, index_date, cohorts, "its tests are over patients")
        columns = (patient_column, study_column, lesion_column, site_column, profile)
        cohort = open_lesions(sink, Source(features, columns, choice, config, identified))
        write_variation(cohort, sink, short_list(short_list_of), group_column)


@app.command("robustness")
def robustness(
    features: Annotated[
        Path | None, typer.Option(help="Feature table, one row a lesion (CSV or Parquet).")
    ] = None,
    eroded: Annotated[Path | None, typer.Option(help="The same lesions, eroded masks.")] = None,
    dilated: Annotated[Path | None, typer.Option(help="The same lesions, dilated masks.")] = None,
    dicom: Annotated[
        list[Path] | None,
        typer.Option(help="Instead: folder of DICOM; masks are perturbed here; repeat for more."),
    ] = None,
    patient_column: PatientOption = "",
    study_column: StudyOption = "",
    lesion_column: LesionOption = "",
    profile: ProfileOption = "",
    keep_at: Annotated[float, typer.Option(help="Concordance a feature must reach.")] = 0.8,
    fewest: Annotated[int, typer.Option(help="Lesions a concordance needs.")] = 10,
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
    config: ConfigOption = None,
) -> None:
    """Lin's concordance of each feature with itself on eroded and dilated masks."""
    options = {"keep_at": keep_at, "fewest": fewest, "profile": profile}
    with running("robustness", folder, table_format, **options) as sink:
        from mirv.service.research.cohort.features import write_robustness

        if dicom and not (features or eroded or dilated):
            from mirv.config.profiles import load_profile
            from mirv.config.settings import load_settings
            from mirv.service.research.cohort.perturbed import extract_perturbed

            own = load_profile(profile or "henry2022")
            choice = chosen(sink, time_point, index_date, cohorts)
            three = extract_perturbed(dicom, load_settings(config), own, sink, choice)
        elif features and eroded and dilated and not dicom:
            columns = (patient_column, study_column, lesion_column, "", profile)
            choice = chosen(sink, time_point, index_date, cohorts)
            whole = replace(choice, cohorts=())  # lesions that vanish do not change the cohort
            three = (
                open_lesions(sink, Source(str(features), columns, choice)),
                open_lesions(sink, Source(str(eroded), columns, whole)),
                open_lesions(sink, Source(str(dilated), columns, whole)),
            )
        else:
            raise BadInput("give --features, --eroded and --dilated, or --dicom")
        write_robustness(*three, sink, keep_at, fewest)


@app.command("reduce")
def reduce(
    features: FeaturesOption,
    patient_column: PatientOption = "",
    study_column: StudyOption = "",
    lesion_column: LesionOption = "",
    profile: ProfileOption = "",
    mode: Annotated[
        ReductionMode, typer.Option(help="Reduction of the 2025 paper.")
    ] = ReductionMode.PAPER,
    clusters: Annotated[
        int, typer.Option(help="Instead: so many clusters of correlated features (2022 paper).")
    ] = 0,
    height: Annotated[float, typer.Option(help="Instead: clusters cut at 1 - |rho|.")] = 0.0,
    correlation: Annotated[
        Correlation, typer.Option(help="Of the clusters.")
    ] = Correlation.PEARSON,
    short_list_of: ShortListOption = "henry2022",
    only: Annotated[
        Path | None, typer.Option(help="Text file of features to cluster (kept.txt).")
    ] = None,
    incomplete: IncompleteOption = "refuse",
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
    config: ConfigOption = None,
    identified: IdentifiedOption = False,
) -> None:
    """Choose features: by variance, volume and pairs, or one a cluster of correlated ones."""
    options = {
        "incomplete": incomplete,
        "mode": mode,
        "clusters": clusters,
        "height": height,
        "correlation": correlation,
    }
    with running("reduce", folder, table_format, **options) as sink:
        from mirv.service.research.cohort.features import (
            ClusterRule,
            write_clusters,
            write_reduction,
        )

        choice = chosen(
            sink,
            time_point,
            index_date,
            cohorts,
            "features are chosen on the lesions of all patients",
        )
        columns = (patient_column, study_column, lesion_column, "", profile)
        cohort = open_lesions(sink, Source(features, columns, choice, config, identified))
        if incomplete == "leave-out":
            cohort = cohort.complete(names_in(only) or cohort.features)
        if not (clusters or height):
            write_reduction(cohort, sink, mode)
            return
        rule = ClusterRule(
            n_clusters=clusters or None,
            height=height or None,
            method=correlation,
            preference=short_list(short_list_of),
            only=names_in(only),
        )
        write_clusters(cohort, sink, rule)


@app.command("mirv")
def mirv(
    features: FeaturesOption,
    patient_column: PatientOption = "",
    study_column: StudyOption = "",
    lesion_column: LesionOption = "",
    site_column: SiteOption = "",
    profile: ProfileOption = "",
    mode: Annotated[
        ReductionMode, typer.Option(help="Fit a space on this cohort by this reduction.")
    ] = ReductionMode.PAPER,
    population: Annotated[
        Population, typer.Option(help="Fit on all lesions, or multiple ones'.")
    ] = Population.ALL,
    space: Annotated[
        str, typer.Option(help="Use this frozen space instead (name or path of a .json).")
    ] = "",
    explain: Annotated[bool, typer.Option(help="Write what sets the most divergent pair.")] = True,
    maps: Annotated[bool, typer.Option(help="Draw each patient's dissimilarity map.")] = False,
    incomplete: IncompleteOption = "refuse",
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
    config: ConfigOption = None,
    identified: IdentifiedOption = False,
) -> None:
    """MIRV distance and dissimilarity of each patient, pairs, and the space they are in."""
    options = {
        "incomplete": incomplete,
        "mode": "" if space else mode,
        "population": population,
        "space": space,
    }
    with running("mirv", folder, table_format, **options) as sink:
        from mirv.analysis.spaces.files import load_space
        from mirv.service.research.cohort.indices import fitted_space, write_indices

        choice = chosen(sink, time_point, index_date, cohorts, "" if space else FITTED)
        columns = (patient_column, study_column, lesion_column, site_column, profile)
        cohort = open_lesions(sink, Source(features, columns, choice, config, identified))
        if incomplete == "leave-out" and not space:
            cohort = cohort.complete(cohort.features)
        used = (
            load_space(space)
            if space
            else fitted_space(cohort, f"cohort-{mode}", mode, population=population)
        )
        write_indices(cohort, sink, used, explain=explain, maps=maps)


def henry_space(
    cohort: "Cohort", space: str, scaling: CohortScaling, short_list_of: str
) -> "FeatureSpace":
    from mirv.analysis.spaces.files import load_space
    from mirv.service.research.cohort.indices import scaled_space

    if space:
        return load_space(space)
    return scaled_space(cohort, scaling, short_list(short_list_of))


@app.command("henry")
def henry(
    features: FeaturesOption,
    patient_column: PatientOption = "",
    study_column: StudyOption = "",
    lesion_column: LesionOption = "",
    site_column: SiteOption = "",
    profile: ProfileOption = "",
    scaling: Annotated[
        CohortScaling, typer.Option(help="By this cohort, by each patient's own lesions, or none.")
    ] = CohortScaling.REFERENCE_MINMAX,
    space: Annotated[str, typer.Option(help="Use this frozen space instead.")] = "",
    short_list_of: ShortListOption = "henry2022",
    explain: Annotated[bool, typer.Option(help="Write what sets the most divergent pair.")] = True,
    maps: Annotated[bool, typer.Option(help="Draw each patient's dissimilarity map.")] = False,
    incomplete: IncompleteOption = "refuse",
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
    config: ConfigOption = None,
    identified: IdentifiedOption = False,
) -> None:
    """MTD and ATH of each patient on the eight robust features, pairs and explanation."""
    options = {
        "incomplete": incomplete,
        "scaling": "" if space else scaling,
        "space": space,
        "short_list_of": short_list_of,
    }
    with running("henry", folder, table_format, **options) as sink:
        from mirv.service.research.cohort.indices import write_indices

        fitted = not space and scaling.startswith("reference")
        choice = chosen(sink, time_point, index_date, cohorts, FITTED if fitted else "")
        columns = (patient_column, study_column, lesion_column, site_column, profile)
        cohort = open_lesions(sink, Source(features, columns, choice, config, identified))
        if incomplete == "leave-out" and not space:
            cohort = cohort.complete(short_list(short_list_of))
        used = henry_space(cohort, space, scaling, short_list_of)
        write_indices(cohort, sink, used, explain=explain, maps=maps)


@app.command("sampling")
def sampling(
    features: FeaturesOption,
    patient_column: PatientOption = "",
    study_column: StudyOption = "",
    lesion_column: LesionOption = "",
    site_column: SiteOption = "",
    profile: ProfileOption = "",
    scaling: Annotated[
        CohortScaling, typer.Option(help="As in henry.")
    ] = CohortScaling.REFERENCE_MINMAX,
    space: Annotated[str, typer.Option(help="Use this frozen space instead.")] = "",
    short_list_of: ShortListOption = "henry2022",
    draws: Annotated[int, typer.Option(min=1, help="Samples of each strategy.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same samples.")] = 0,
    largest: Annotated[int, typer.Option(min=2, help="End of the recovery curve.")] = 15,
    min_lesions: Annotated[int, typer.Option(min=2, help="Fewer: not sampled.")] = 2,
    incomplete: IncompleteOption = "refuse",
    time_point: TimePointOption = None,
    index_date: IndexDateOption = None,
    cohorts: CohortOption = None,
    folder: OutOption = OUT,
    table_format: FormatOption = "csv",
    config: ConfigOption = None,
    identified: IdentifiedOption = False,
) -> None:
    """What samples of the lesions recover: five strategies, fixed rules, and the curve."""
    options = {
        "incomplete": incomplete,
        "scaling": "" if space else scaling,
        "space": space,
        "short_list_of": short_list_of,
        "draws": draws,
        "seed": seed,
        "largest": largest,
        "min_lesions": min_lesions,
    }
    with running("sampling", folder, table_format, **options) as sink:
        from mirv.service.research.cohort.recovery import SamplingRule, write_sampling

        choice = chosen(sink, time_point, index_date, cohorts, "recovery is pooled over patients")
        columns = (patient_column, study_column, lesion_column, site_column, profile)
        cohort = open_lesions(sink, Source(features, columns, choice, config, identified))
        if incomplete == "leave-out" and not space:
            cohort = cohort.complete(short_list(short_list_of))
        used = henry_space(cohort, space, scaling, short_list_of)
        rule = SamplingRule(draws, seed, largest, min_lesions)
        write_sampling(cohort, sink, used, rule)


app.add_typer(patients_app)
