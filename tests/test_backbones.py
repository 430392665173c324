import sys
import types

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from pyhue._runs.config import TrainConfig
from pyhue.backbones import Backbone, load_backbone


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet18", 64, (512, 2, 2)),
        ("resnet18-3x3-w8", 32, (64, 4, 4)),
        ("resnet18-w16", 96, (128, 3, 3)),
        ("resnet18-3x3", 16, (512, 2, 2)),
    ],
)
def test_own_networks(name, size, shape):
    backbone = load_backbone(name, image_size=size)
    assert backbone.channels == shape[0]
    assert backbone(torch.rand(2, 3, size, size)).shape == (2, *shape)


def test_resnet18_has_the_parameters_of_the_original():
    count = sum(p.numel() for p in load_backbone("resnet18").parameters())
    assert count == 11_689_512 - 513_000  # without the classifier of 1,000 classes


def test_images_are_standardised_unless_the_network_prepares_them():
    means = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    body = nn.Identity()
    assert Backbone(body, 8)(means).abs().max() < 1e-6
    body.preprocess = lambda images: images * 2 + 1
    torch.testing.assert_close(Backbone(body, 8)(means), means * 2 + 1)


def test_the_dry_run_leaves_batch_statistics_and_mode_alone():
    backbone = Backbone(nn.BatchNorm2d(3), 8)
    assert backbone.training
    assert backbone.body.running_mean.abs().max() == 0


@pytest.mark.parametrize("name", ["resnet", "resnet18-w0", "resnet18-7x7", "", "resnet50"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"backbone: expected resnet18"):
        load_backbone(name)


def test_only_packages_have_pretrained_weights():
    with pytest.raises(ValueError, match="no pretrained weights of 'resnet18'"):
        load_backbone("resnet18", pretrained=True)


FACTORIES = """
import torch
def maps(): return torch.nn.Conv2d(3, 5, 3)
def vectors(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
def number(): return 3
def failing(): return torch.nn.Conv2d(4, 5, 3)
"""


@pytest.mark.parametrize("as_file", [True, False])
def test_factories(tmp_path, monkeypatch, as_file):
    (tmp_path / "own_networks.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    source = str(tmp_path / "own_networks.py") if as_file else "own_networks"
    assert load_backbone(f"{source}:maps", image_size=8).channels == 5
    with pytest.raises(ValueError, match=r"expected feature maps .* got shape \(1, 4\)"):
        load_backbone(f"{source}:vectors", image_size=8)
    with pytest.raises(ValueError, match=r"gave int, expected nn\.Module"):
        load_backbone(f"{source}:number")
    with pytest.raises(ValueError, match="does not take images of 8 x 8 pixels"):
        load_backbone(f"{source}:failing", image_size=8)
    with pytest.raises(ValueError, match="has no function 'absent'"):
        load_backbone(f"{source}:absent")
    assert sys.path == path
    sys.modules.pop("own_networks", None)


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(ImportError, match="no_such_module cannot be imported"):
        load_backbone("no_such_module:make")
    with pytest.raises(ValueError, match="there is no file"):
        load_backbone(f"{tmp_path / 'absent.py'}:make")


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_missing_package_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        load_backbone(f"{package}:resnet18")


class LateActivation(nn.Module):
    """As DenseNet: the last activation, and the pooling, are no modules."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
        self.classifier = nn.Linear(6, 10)

    def maps(self, x):
        return nn.functional.relu(self.features(x))

    def head(self, maps):
        return self.classifier(nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1))

    def forward(self, x):
        return self.head(self.maps(x))


class Auxiliary(LateActivation):
    """As Inception: a second classifier in training."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))

    def forward(self, x):
        maps = self.maps(x)
        aux = self.aux(maps) if self.training else None
        logits = self.classifier(maps.mean([2, 3]))
        return (logits, aux) if self.training else logits


class EarlyClassifier(nn.Module):
    """As SqueezeNet: the classifier is a convolution before the pooling."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(6, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def maps(self, x):
        return self.features(x)

    def head(self, maps):
        return self.classifier(maps).flatten(1)

    def forward(self, x):
        return self.head(self.maps(x))


class ChannelsLast(nn.Module):
    """As Swin: layers give (n, h, w, C), turned before the pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head_ = nn.Linear(6, 10)

    def maps(self, x):
        return self.norm(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def head(self, maps):
        return self.head_(self.avgpool(maps).flatten(1))

    def forward(self, x):
        return self.head(self.maps(x))


class Tokens(nn.Module):
    """As a vision transformer of torchvision: a class token first."""

    def __init__(self):
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, 6))
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.mix = nn.Linear(6, 6)
        self.heads = nn.Linear(6, 10)

    def maps(self, x):
        return self.mix(self.patches(x).flatten(2).mT).mT.unflatten(2, (4, 4))

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = self.mix(torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1))
        return self.heads(x[:, 0])


class inception_v3(LateActivation):
    """As Inception: weights that torchvision offers are of images of other means and deviations."""

    def __init__(self, transform_input=False):
        super().__init__()
        self.transform_input = transform_input

    def maps(self, x):
        return super().maps(x * 2 + 1 if self.transform_input else x)


class DenseLayers(LateActivation):
    """As DenseNet, by names."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential()
        self.features.denselayer1 = nn.Sequential()
        self.features.denselayer1.norm1 = nn.BatchNorm2d(3)
        self.features.denselayer1.conv1 = nn.Conv2d(3, 6, 3)


class Renamed(nn.Sequential):
    """As the perceptrons of torchvision's transformers, which know their older names."""

    def _load_from_state_dict(self, state_dict, prefix, *others):
        for name in ("weight", "bias"):
            if f"{prefix}linear_1.{name}" in state_dict:
                state_dict[f"{prefix}0.{name}"] = state_dict.pop(f"{prefix}linear_1.{name}")
        super()._load_from_state_dict(state_dict, prefix, *others)


class OlderTokens(Tokens):
    """As a vision transformer."""

    def __init__(self):
        super().__init__()
        self.mix = Renamed(nn.Linear(6, 6))


STAND_INS = (LateActivation, Auxiliary, EarlyClassifier, ChannelsLast, Tokens)
NAMED = (inception_v3, DenseLayers, OlderTokens)


@pytest.fixture
def torchvision(monkeypatch):
    """A package with the stand-ins, all with the weights of one seed."""

    def get_model(name, weights=None, **options):
        if weights is not None:
            sys.stdout.write("Downloading\n")
            sys.stderr.write("0 %\n")
            if name == "ChannelsLast":
                raise ValueError("another size")
            if name != "LateActivation":
                raise OSError("no network")
        torch.manual_seed(0)
        return made[name](**options)

    made = {network.__name__: network for network in (*STAND_INS, *NAMED)}
    prepared = types.SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    weights = types.SimpleNamespace(url="https://here/some-123.pth", transforms=lambda: prepared)
    models = types.ModuleType("torchvision.models")
    models.get_model, models.list_models = get_model, lambda module: list(made)
    models.get_model_weights = lambda name: types.SimpleNamespace(DEFAULT=weights)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return get_model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", STAND_INS)
def test_maps_are_what_the_network_pools(kind, training, torchvision):
    network = torchvision(kind.__name__).train(training)
    backbone = load_backbone(f"torchvision:{kind.__name__}", image_size=16).train(training)
    images = torch.rand(2, 3, 16, 16)
    prepared = (images - 0.5) / 0.25
    maps = backbone(images)
    torch.testing.assert_close(maps, network.maps(prepared))
    if kind is not Tokens and not training:
        torch.testing.assert_close(network.head(maps), network(prepared))
    maps.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters() if parameter.dim() > 3)
    assert not any("aux" in name or "heads" in name or "classifier" in name for name in backbone.state_dict())


def test_a_layer_and_a_wrong_one(torchvision):
    backbone = load_backbone("torchvision:ChannelsLast", image_size=16, layer="norm")
    assert backbone(torch.rand(2, 3, 16, 16)).shape == (2, 6, 4, 4)  # turned
    assert backbone(torch.rand(2, 3, 16, 16)).shape == (2, 6, 4, 4)  # and again, stopped there
    with pytest.raises(ValueError, match=r"no 'features\.2'; 'features' has features\.0, features\.1$"):
        load_backbone("torchvision:LateActivation", image_size=16, layer="features.2")
    own = load_backbone("resnet18-w2", image_size=32, layer="layers.4.residual.0")
    assert own(torch.rand(1, 3, 32, 32)).shape == (1, 2, 8, 8)
    with pytest.raises(ValueError, match=r"layer 'layers.1': nothing says which side of \(1, 16, 16, 16\)"):
        load_backbone("resnet18-w16", image_size=32, layer="layers.1")


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_weights_of_a_file(ending, torchvision, tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    network, path = LateActivation(), tmp_path / f"weights.{ending}"
    network.classifier = nn.Linear(6, 3)  # of another task
    save = {"pt": torch.save, "safetensors": save_file}[ending]
    save(network.state_dict(), path)
    backbone = load_backbone("torchvision:LateActivation", image_size=16, weights=str(path)).eval()
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(backbone(images), network.eval().maps((images - 0.5) / 0.25))
    with pytest.raises(ValueError, match=r"is of another network|has no"):
        load_backbone("torchvision:ChannelsLast", image_size=16, weights=str(path))
    save({k: v for k, v in network.state_dict().items() if k != "features.0.bias"}, path)
    with pytest.raises(ValueError, match=r"has no features\.0\.bias"):
        load_backbone("torchvision:LateActivation", image_size=16, weights=str(path))
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="weights"):
        load_backbone("torchvision:LateActivation", image_size=16, weights=str(path))


def test_inception_transforms_its_input_whatever_the_weights(torchvision, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(torchvision("inception_v3").state_dict(), path)
    images = torch.rand(1, 3, 16, 16)
    expected = torchvision("inception_v3", transform_input=True).eval().maps((images - 0.5) / 0.25)
    for weights in (None, path):  # a trained folder gets its weights later
        backbone = load_backbone("torchvision:inception_v3", image_size=16, weights=weights).eval()
        torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize(
    ("name", "older"),
    [
        ("DenseLayers", {"layer1.norm1": "layer1.norm.1", "layer1.conv1": "layer1.conv.1"}),
        ("OlderTokens", {"mix.0": "mix.linear_1"}),
        ("LateActivation", {}),
    ],
)
def test_older_names_and_weights_without_counts_of_batches(name, older, torchvision, tmp_path):
    path, images = tmp_path / "weights.pt", torch.rand(1, 3, 16, 16)
    network = torchvision(name).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    state = {}
    for key, value in network.state_dict().items():
        for new, old in older.items():
            key = key.replace(new, old)
        if "num_batches_tracked" not in key:
            state[key] = value
    torch.save(state, path)
    backbone = load_backbone(f"torchvision:{name}", image_size=16, weights=path).eval()
    torch.testing.assert_close(backbone(images), network.maps((images - 0.5) / 0.25))


def test_weights_that_are_no_dense_tensors_are_named(tmp_path):
    path, good = tmp_path / "weights.pt", load_backbone("resnet18-w2", image_size=32).body.state_dict()
    name = "layers.0.weight"
    for wrong in (good[name].to_sparse(), good[name].to("meta"), good[name] + 0j, 1.5):
        torch.save(good | {name: wrong}, path)
        with pytest.raises(ValueError, match=rf"weights\.pt: .*dense tensors .* not what is called {name}$"):
            load_backbone("resnet18-w2", image_size=32, weights=path)
    torch.save(good | {name: good[name][:1]}, path)
    with pytest.raises(ValueError, match=rf"weights\.pt is of another network: size mismatch for {name}"):
        load_backbone("resnet18-w2", image_size=32, weights=path)


def test_a_pickled_network_is_refused_without_advice_to_run_its_code(tmp_path):
    fold = tmp_path / "seed-0" / "fold-0"
    fold.mkdir(parents=True)
    torch.save(nn.Linear(2, 2), fold / "model.pt")
    (tmp_path / "config.json").write_text(TrainConfig("images").to_json())
    for name, weights in (("resnet18-w2", fold / "model.pt"), (str(fold), None)):
        with pytest.raises(ValueError, match=r"it holds torch\.nn\S*Linear; expected tensors") as raised:
            load_backbone(name, image_size=32, weights=weights)
        assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize("there", [True, False])
def test_what_packages_print_is_a_note(torchvision, monkeypatch, capsys, there):
    if not there:
        monkeypatch.setattr(sys, "stderr", None)
    load_backbone("torchvision:LateActivation", pretrained=True, image_size=16)
    out, notes = capsys.readouterr()
    assert (out, notes) == ("", "Downloading\n0 %\n" if there else "")


def test_errors_of_packages_say_the_cause(torchvision):
    with pytest.raises(ValueError, match=r"cannot be made: another size$"):
        load_backbone("torchvision:ChannelsLast", pretrained=True, image_size=16)
    with pytest.raises(
        ValueError, match="no classification network 'LateActivatio'; similar: LateActivation"
    ):
        load_backbone("torchvision:LateActivatio")
    with pytest.raises(ValueError, match=r"no network; it needs https://here/some-123\.pth as .*checkpoints"):
        load_backbone("torchvision:Tokens", pretrained=True, image_size=16)
    with pytest.raises(ValueError, match="does not take images of 2 x 2 pixels"):
        load_backbone("torchvision:LateActivation", image_size=2)


class Nothing(nn.Module):
    """As PiT and CoaT: a class token alone, or several scales."""

    def __init__(self, output):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 2, 5))
        self.output = output

    def forward_features(self, x):
        return self.output


class Undeclared(nn.Module):
    """As VOLO: class tokens that nothing but their parameter tells of."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.full((1, 2, 3), 9.0))

    def forward_features(self, x):
        patches = nn.functional.avg_pool2d(x, 4).flatten(2).mT
        return torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1)


class TimmTokens(nn.Module):
    """As a vision transformer of timm: a class token and two registers."""

    num_prefix_tokens = 3

    def forward_features(self, x):
        patches = nn.functional.avg_pool2d(x, 4).flatten(2).mT
        return torch.cat([torch.full_like(patches[:, :3], 9), patches], 1)


@pytest.fixture
def timm(monkeypatch):
    """timm(network): a package timm that makes this network, and knows no weights of it by name."""

    def install(network):
        def create_model(name, pretrained, num_classes):
            assert (name, pretrained, num_classes) == ("some", False, 0)
            return network

        timm = types.ModuleType("timm")
        timm.create_model, timm.list_models = create_model, lambda: ["some"]
        timm.list_pretrained = lambda: ["some.good"]

        def get_pretrained_cfg(name, allow_unregistered=True):
            if name != "some":
                raise RuntimeError(f"Invalid pretrained tag of {name}.")
            return types.SimpleNamespace(fixed_input_size=False)

        timm.models = types.SimpleNamespace(get_pretrained_cfg=get_pretrained_cfg)
        config = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 1.0)}
        timm.data = types.SimpleNamespace(resolve_model_data_config=lambda network: config)
        monkeypatch.setitem(sys.modules, "timm", timm)

    return install


@pytest.mark.parametrize("network", [TimmTokens, Undeclared])
def test_timm_networks_bring_their_own_mean_and_lose_their_first_tokens(timm, network):
    timm(network())
    maps = load_backbone("timm:some", image_size=8)(torch.ones(1, 3, 8, 8))
    assert maps[0, :, 0, 0].tolist() == [2, 1, 0.5]
    assert maps.shape == (1, 3, 2, 2)
    assert (maps < 9).all()


def test_weights_that_timm_has_not(timm):
    timm(TimmTokens())
    with pytest.raises(ValueError, match=r"timm has no weights 'some\.god'; similar: some\.good$"):
        load_backbone("timm:some.god", image_size=8)


class PreLogits(nn.Module):
    """As VGG: convolutions of its own between the maps and the pooling."""

    def __init__(self):
        super().__init__()
        self.features, self.pre_logits = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 9, 2)

    def forward_features(self, x):
        return self.features(x)

    def forward(self, x):
        return self.pre_logits(self.features(x)).mean([2, 3])


class TimmChannelsLast(PreLogits):
    """As Swin and MambaOut."""

    def forward_features(self, x):
        return self.features(x).permute(0, 2, 3, 1)


@pytest.mark.parametrize("kind", [PreLogits, TimmChannelsLast])
def test_timm_networks_give_the_maps_before_their_own_head(timm, kind):
    network = kind()
    timm(network)
    maps = load_backbone("timm:some", image_size=8)(torch.ones(2, 3, 8, 8))
    prepared = (torch.ones(2, 3, 8, 8) - 0.5) / torch.tensor([0.25, 0.5, 1.0])[:, None, None]
    torch.testing.assert_close(maps, network.features(prepared))
    assert maps.shape == (2, 6, 2, 2)


@pytest.mark.parametrize(
    ("output", "what"),
    [
        (torch.zeros(1, 1, 5), "got the class token alone; another layer may have them"),
        (torch.zeros(1, 2, 5), "got the class token alone; another layer may have them"),
        ([torch.zeros(1, 5, 2, 2)] * 2, "got list; another layer may have them"),
        (torch.zeros(1, 5), r"got shape \(1, 5\)"),
    ],
)
def test_timm_networks_without_maps_are_refused(timm, output, what):
    timm(Nothing(output))
    with pytest.raises(ValueError, match=f"^backbone: expected feature maps .*, {what}$"):
        load_backbone("timm:some", image_size=8)
