// Reads a headline SR and a SEG with the packages that OHIF reads with; prints JSON.
// Usage: node read.mjs study.json   (paths and image planes, written by the test)
import { readFileSync } from "node:fs";
import { metaData } from "@cornerstonejs/core";
import { adaptersSEG, adaptersSR } from "@cornerstonejs/adapters";
import dcmjs from "dcmjs";

dcmjs.log.setLevel("error");
const study = JSON.parse(readFileSync(process.argv[2], "utf-8"));
const planes = new Map(study.images.map((image) => [`image:${image.uid}`, image]));

metaData.addProvider((kind, imageId) => {
  const image = planes.get(imageId);
  if (!image) return undefined;
  const modules = {
    imagePlaneModule: {
      frameOfReferenceUID: study.frameOfReference,
      rows: image.rows,
      columns: image.columns,
      rowCosines: image.orientation.slice(0, 3),
      columnCosines: image.orientation.slice(3),
      imageOrientationPatient: image.orientation,
      imagePositionPatient: image.position,
      rowPixelSpacing: image.spacing[0],
      columnPixelSpacing: image.spacing[1],
      sliceThickness: image.thickness,
    },
    imagePixelModule: {
      bitsAllocated: 16, bitsStored: 16, highBit: 15, samplesPerPixel: 1,
      pixelRepresentation: 1, photometricInterpretation: "MONOCHROME2",
    },
    // Where segments overlap, frames are found by this module alone.
    generalImageModule: { sopInstanceUID: image.uid },
    generalSeriesModule: { seriesInstanceUID: study.series, modality: "CT" },
    sopCommonModule: { sopInstanceUID: image.uid, sopClassUID: study.imageClass },
    instance: {
      SOPInstanceUID: image.uid, SOPClassUID: study.imageClass, SeriesInstanceUID: study.series,
      FrameOfReferenceUID: study.frameOfReference, ImagePositionPatient: image.position,
      ImageOrientationPatient: image.orientation, Rows: image.rows, Columns: image.columns,
    },
  };
  return modules[kind];
}, 1000);

function load(path) {
  const bytes = readFileSync(path);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

function measurements() {
  const dicom = dcmjs.data.DicomMessage.readFile(load(study.report));
  const dataset = dcmjs.data.DicomMetaDictionary.naturalizeDataset(dicom.dict);
  const imageIds = {};
  for (const image of study.images) imageIds[`${image.uid}:1`] = `image:${image.uid}`;
  const tools = adaptersSR.Cornerstone3D.MeasurementReport.generateToolState(
    dataset, imageIds, metaData
  );
  return Object.entries(tools).flatMap(([tool, found]) =>
    found.map((one) => {
      const { data, metadata } = one.annotation;
      return {
        tool,
        tracking: one.TrackingUniqueIdentifier,
        label: data.label,
        image: one.sopInstanceUid,
        points: data.handles.points,
        stats: data.cachedStats[`imageId:${metadata.referencedImageId}`],
      };
    })
  );
}

async function voxels() {
  const { createFromDICOMSegBuffer } = adaptersSEG.Cornerstone3D.Segmentation;
  const read = await createFromDICOMSegBuffer([...planes.keys()], load(study.segmentation), {
    metadataProvider: metaData,
  });
  const counts = {};
  const stacks = Array.isArray(read.labelMapImages[0]) ? read.labelMapImages : [read.labelMapImages];
  for (const stack of stacks) {
    stack.forEach((image, slice) => {
      const pixels = image.voxelManager.getScalarData();
      pixels.forEach((segment, index) => {
        if (segment) (counts[segment] ??= []).push([slice, index]);
      });
    });
  }
  const tracked = {};
  for (const segment of read.segMetadata.data) {
    if (segment) tracked[segment.SegmentNumber] = segment.TrackingUID;
  }
  return { counts, tracked, overlapping: read.overlappingSegments };
}

console.log(JSON.stringify({ measurements: measurements(), segments: await voxels() }));
