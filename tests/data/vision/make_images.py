#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write images/: one picture, 64 x 32, in every form that files come in; the files are checked in.

Four quadrants, red green / blue yellow, or in grey 0 255 / 170 85. Each file is upright when it is
read right: oriented files are stored turned. (pip install pillow pillow-heif numpy tifffile)
"""
import base64
import gzip
import io
import os
import struct
import zlib

import numpy as np
import pillow_heif
import tifffile
from PIL import Image

pillow_heif.register_heif_opener()
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'images')
W, H = 64, 32


def quadrants(a, b, c, d):
    """[H][W][channels] of four values."""
    top = np.concatenate([np.full((H // 2, W // 2, len(a)), v) for v in (a, b)], 1)
    bottom = np.concatenate([np.full((H // 2, W // 2, len(a)), v) for v in (c, d)], 1)
    return np.concatenate([top, bottom], 0).astype(np.uint8)


RGB = quadrants((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
GREY = quadrants((0,), (255,), (170,), (85,))[..., 0]
# Nothing can be seen of three quadrants: the colours are there all the same.
RGBA = np.dstack([RGB, quadrants((255,), (0,), (0,), (128,))])
rgb, grey, rgba = Image.fromarray(RGB), Image.fromarray(GREY), Image.fromarray(RGBA)
palette = rgb.quantize(4)
# A second frame that must not be seen.
black = Image.new('RGB', (W, H))

# How the upright picture is stored, for each orientation.
STORED = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
          4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
          6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_270}


def exif(orientation, big_endian=False):
    order = '>' if big_endian else '<'
    return (b'MM\0*' if big_endian else b'II*\0') + struct.pack(
        order + 'IHHHIHHI', 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def stored(orientation, image=rgb):
    return image if orientation == 1 else image.transpose(STORED[orientation])


def save(name, image, **options):
    image.save(os.path.join(FOLDER, name), **options)


def write(name, data):
    with open(os.path.join(FOLDER, name), 'wb') as file:
        file.write(data)


def png(header, *chunks):
    """A PNG file by hand."""
    out = b'\x89PNG\r\n\x1a\n'
    for kind, data in ((b'IHDR', header),) + chunks + ((b'IEND', b''),):
        out += struct.pack('>I', len(data)) + kind + data
        out += struct.pack('>I', zlib.crc32(kind + data))
    return out


def pngs():
    save('rgb.png', rgb)
    save('alpha.png', rgba)
    save('grey.png', grey)
    save('palette.png', palette)
    save('palette_transparent.png', palette, transparency=bytes([0, 0, 0, 0]))
    save('bilevel.png', Image.fromarray(quadrants((0,), (255,), (255,), (0,))[..., 0]).convert('1'))
    save('animated.png', rgb, save_all=True, append_images=[black])
    wide = np.dstack([RGB.astype(np.uint16) << 8 | 0x7f])
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in wide)
    write('rgb16.png', png(struct.pack('>IIBBBBB', W, H, 16, 2, 0, 0, 0),
                           (b'IDAT', zlib.compress(rows))))
    rows = b''.join(b'\0' + (row.astype(np.uint16) << 8 | 0x7f).astype('>u2').tobytes()
                    for row in GREY)
    write('grey16.png', png(struct.pack('>IIBBBBB', W, H, 16, 0, 0, 0, 0),
                            (b'IDAT', zlib.compress(rows))))
    save('orientation6.png', stored(6), exif=exif(6))


def jpegs():
    for orientation in STORED:
        save(f'orientation{orientation}.jpg', stored(orientation), quality=95,
             exif=b'Exif\0\0' + exif(orientation, big_endian=orientation % 2 == 0))
    save('grey.jpg', grey, quality=95)
    save('progressive.jpg', rgb, quality=95, progressive=True)
    save('cmyk.jpg', rgb.convert('CMYK'), quality=95)


def others():
    save('rgb.gif', palette)
    save('animated.gif', palette, save_all=True, append_images=[black], duration=100)
    save('lossless.webp', rgb, lossless=True)
    save('lossy.webp', rgb, quality=90)
    save('alpha.webp', rgba, lossless=True, exact=True)
    save('animated.webp', rgb, lossless=True, save_all=True, append_images=[black], duration=100)
    save('orientation8.webp', stored(8), lossless=True, exif=exif(8))
    save('orientation5.webp', stored(5), lossless=True, exif=b'Exif\0\0' + exif(5, True))
    save('rgb.avif', rgb, quality=90)
    save('alpha.avif', rgba, quality=90)
    save('rgb.heic', rgb, quality=90)
    for orientation in (3, 5, 6, 7):
        save(f'orientation{orientation}.avif', stored(orientation), quality=90,
             exif=exif(orientation))
        save(f'orientation{orientation}.heic', stored(orientation), quality=90,
             exif=exif(orientation))
    save('rgb.bmp', rgb)
    save('palette.bmp', palette)
    save('bilevel.bmp',
         Image.fromarray(quadrants((0,), (255,), (255,), (0,))[..., 0]).convert('1'))
    save('rgb.tga', rgb)
    save('runs.tga', rgb, compression='tga_rle')
    save('alpha.tga', rgba)
    save('rgb.ppm', rgb)
    save('grey.pgm', grey)


def tiffs():
    for compression in (None, 'tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg'):
        save(f'rgb_{compression or "plain"}.tif', rgb, compression=compression)
    save('grey.tif', grey, compression='tiff_lzw')
    save('palette.tif', palette, compression='tiff_lzw')
    save('alpha.tif', rgba, compression='tiff_lzw')
    save('cmyk.tif', rgb.convert('CMYK'), compression='tiff_lzw')
    save('bilevel.tif', Image.fromarray(quadrants((0,), (255,), (255,), (0,))[..., 0]).convert('1'),
         compression='group4')
    save('pages.tif', rgb, compression='tiff_lzw', save_all=True, append_images=[black])
    for orientation in STORED:
        save(f'orientation{orientation}.tif', stored(orientation), compression='tiff_lzw',
             tiffinfo={274: orientation})
    options = {'byteorder': '>', 'compression': 'zlib', 'metadata': None, 'software': False}
    tifffile.imwrite(os.path.join(FOLDER, 'rgb16.tif'), RGB.astype(np.uint16) * 257,
                     photometric='rgb', **options)
    tifffile.imwrite(os.path.join(FOLDER, 'tiles.tif'), RGB, photometric='rgb', tile=(16, 16),
                     **options)
    tifffile.imwrite(os.path.join(FOLDER, 'big.tif'), RGB, photometric='rgb', bigtiff=True,
                     **options)


def svgs():
    shapes = ('<rect width="32" height="16" fill="red"/>'
              '<rect x="32" width="32" height="16" fill="#00ff00"/>'
              '<rect y="16" width="32" height="16" fill="blue"/>'
              '<rect x="32" y="16" width="32" height="16" fill="yellow"/>')
    root = '<svg xmlns="http://www.w3.org/2000/svg" '
    plain = f'{root}width="64" height="32">{shapes}</svg>\n'
    write('rgb.svg', b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n' + plain.encode())
    write('box.svg', f'{root}viewBox="0 0 64 32">{shapes}</svg>\n'.encode())
    write('compressed.svgz', gzip.compress(plain.encode(), mtime=0))
    embedded = io.BytesIO()
    rgb.save(embedded, 'PNG')
    data = base64.b64encode(embedded.getvalue()).decode()
    write('embedded.svg',
          f'{root}width="64" height="32"><image width="64" height="32" '
          f'href="data:image/png;base64,{data}"/></svg>\n'.encode())
    # A blur of nothing, so that the code of filters runs.
    write('filter.svg', f'{root}width="64" height="32"><filter id="f"><feGaussianBlur '
          f'stdDeviation="0.5"/></filter><g filter="url(#f)">{shapes}</g></svg>\n'.encode())


if __name__ == '__main__':
    os.makedirs(FOLDER, exist_ok=True)
    pngs()
    jpegs()
    others()
    tiffs()
    svgs()
